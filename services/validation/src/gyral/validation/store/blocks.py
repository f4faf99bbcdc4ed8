"""Counts, outcomes and releases of blocks, in transactions that hold the stream's progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gyral.validation.domain.blocks import Counts, Place, merged
from gyral.validation.domain.expectations import Measure
from gyral.validation.domain.outcomes import Judged, Position
from gyral.validation.store.accounts import AccountTx


@dataclass(frozen=True, slots=True)
class Held:
    """A block that failed, blocks and was not released."""

    expectation: str
    start_us: int
    end_us: int
    measured: float
    expected: str


class BlockTx(AccountTx):
    """A transaction over the expectations of streams."""

    async def positions(self, stream: str) -> dict[str, Position]:
        """Return where each expectation of a stream stands, by name."""
        rows = await self.conn.fetch(
            """
            SELECT name, measure, next_us, newest_us, reference, reference_us, failing
              FROM expectation
             WHERE stream = $1
            """,
            stream,
        )
        return {
            row["name"]: Position(
                row["name"],
                row["measure"],
                row["next_us"],
                row["newest_us"],
                None if row["reference"] is None else tuple(row["reference"]),
                row["reference_us"],
                row["failing"],
            )
            for row in rows
        }

    async def save_positions(self, stream: str, positions: Sequence[Position]) -> None:
        """Write where expectations stand."""
        await self.conn.executemany(
            """
            INSERT INTO expectation (stream, name, measure, next_us, newest_us, reference,
                                     reference_us, failing)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                ON CONFLICT (stream, name)
                DO UPDATE SET measure      = excluded.measure,
                              next_us      = excluded.next_us,
                              newest_us    = excluded.newest_us,
                              reference    = excluded.reference,
                              reference_us = excluded.reference_us,
                              failing      = excluded.failing
            """,
            [
                (
                    stream,
                    one.name,
                    one.measure,
                    one.next_us,
                    one.newest_us,
                    one.reference,
                    one.reference_us,
                    one.failing,
                )
                for one in positions
            ],
        )

    async def keep_only(self, stream: str, names: Sequence[str], measures: set[str]) -> None:
        """Forget expectations that are no longer declared, and what only they counted."""
        await self.conn.execute(
            "DELETE FROM expectation WHERE stream = $1 AND name <> ALL($2::text[])",
            stream,
            list(names),
        )
        await self.conn.execute(
            "DELETE FROM block_count WHERE stream = $1 AND measure <> ALL($2::text[])",
            stream,
            sorted(measures),
        )

    async def add_counts(
        self, stream: str, measures: Mapping[str, Measure], found: Mapping[Place, Counts]
    ) -> None:
        """Add what a batch holds of blocks to what was counted before."""
        if not found:
            return
        places = sorted(found, key=lambda at: (at.measure, at.block_us, at.partition))
        rows = await self.conn.fetch(
            """
            SELECT measure, block_us, partition, rows, counts
              FROM block_count
              JOIN unnest($2::text[], $3::bigint[], $4::integer[])
                   AS wanted (measure, block_us, partition)
             USING (measure, block_us, partition)
             WHERE stream = $1
            """,
            stream,
            *_columns(places),
        )
        known = {Place(row["measure"], row["block_us"], row["partition"]): row for row in rows}
        whole = []
        for place in places:
            counts, before, measure = found[place], known.get(place), measures[place.measure]
            if before is not None:
                earlier = Counts.from_bytes(measure, before["rows"], before["counts"])
                counts = merged(measure, earlier, counts)
            whole.append(counts)
        await self.conn.execute(
            """
            INSERT INTO block_count (stream, measure, block_us, partition, rows, counts)
            SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::bigint[],
                                     $6::bytea[])
                ON CONFLICT (stream, measure, block_us, partition)
                DO UPDATE SET rows = excluded.rows, counts = excluded.counts
            """,
            stream,
            *_columns(places),
            [counts.rows for counts in whole],
            [counts.to_bytes() for counts in whole],
        )

    async def counted(
        self, stream: str, measure: Measure, *, from_us: int, before_us: int, limit: int
    ) -> dict[int, Counts]:
        """Return the first blocks with rows in a range, all partitions together."""
        rows = await self.conn.fetch(
            """
            SELECT block_us, rows, counts
              FROM block_count
             WHERE stream = $1 AND measure = $2
               AND block_us IN (SELECT DISTINCT block_us FROM block_count
                                 WHERE stream = $1 AND measure = $2
                                   AND block_us >= $3 AND block_us < $4
                                 ORDER BY block_us
                                 LIMIT $5)
            """,
            stream,
            measure.id,
            from_us,
            before_us,
            limit,
        )
        found: dict[int, Counts] = {}
        for row in rows:
            start = row["block_us"]
            counts = Counts.from_bytes(measure, row["rows"], row["counts"])
            found[start] = merged(measure, found[start], counts) if start in found else counts
        return found

    async def forget_counts(self, stream: str, measure: str, *, before_us: int) -> None:
        """Forget what was counted of blocks that all who share a measure have judged."""
        await self.conn.execute(
            "DELETE FROM block_count WHERE stream = $1 AND measure = $2 AND block_us < $3",
            stream,
            measure,
            before_us,
        )

    async def add_judged(self, stream: str, judged: Sequence[Judged]) -> None:
        """Write down what came out of blocks, each once."""
        await self.conn.executemany(
            """
            INSERT INTO judged_block (stream, expectation, kind, field, severity, start_us,
                                      end_us, rows, measured, expected, outcome, counts)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            """,
            [
                (
                    stream,
                    one.watched.name,
                    one.watched.measure.kind.value,
                    one.watched.measure.field,
                    one.watched.severity.value,
                    one.start_us,
                    one.end_us,
                    one.rows,
                    one.measured,
                    one.watched.limit,
                    one.outcome.value,
                    one.counts,
                )
                for one in judged
            ],
        )

    async def held(self, stream: str, *, limit: int) -> list[Held]:
        """Return the oldest blocks that hold a stream's data back."""
        rows = await self.conn.fetch(
            """
            SELECT expectation, start_us, end_us, measured, expected
              FROM judged_block
             WHERE stream = $1
               AND outcome = 'failed' AND severity = 'block' AND released_at IS NULL
             ORDER BY start_us, expectation
             LIMIT $2
            """,
            stream,
            limit,
        )
        return [Held(*row.values()) for row in rows]

    async def release(
        self, stream: str, ids: Sequence[int] | None, *, actor: str, reason: str, limit: int
    ) -> list[int]:
        """Let failed blocks count as passed, each once, and return their ids.

        The newest of them becomes what the next ones are compared with.
        """
        rows = await self.conn.fetch(
            """
            WITH chosen AS (
                SELECT id FROM judged_block
                 WHERE stream = $1 AND outcome = 'failed' AND released_at IS NULL
                   AND ($2::bigint[] IS NULL OR id = ANY($2))
                 ORDER BY id
                 LIMIT $5
                   FOR UPDATE
            )
            UPDATE judged_block AS block
               SET released_at = now(), released_by = $3, release_reason = $4
              FROM chosen
             WHERE block.id = chosen.id
            RETURNING block.id, block.expectation, block.start_us, block.counts
            """,
            stream,
            None if ids is None else list(ids),
            actor,
            reason,
            limit,
        )
        await self.conn.executemany(
            """
            UPDATE expectation
               SET failing = false,
                   reference    = CASE WHEN newer.yes THEN $4 ELSE reference END,
                   reference_us = CASE WHEN newer.yes THEN $3 ELSE reference_us END
              FROM (SELECT $4::bigint[] IS NOT NULL) AS newer (yes)
             WHERE stream = $1 AND name = $2
               AND (NOT newer.yes OR coalesce(reference_us, -1) < $3::bigint)
            """,
            [
                (stream, row["expectation"], row["start_us"], row["counts"])
                for row in sorted(rows, key=lambda row: int(row["start_us"]))
            ],
        )
        return sorted(row["id"] for row in rows)


def _columns(places: Sequence[Place]) -> tuple[list[str], list[int], list[int]]:
    return (
        [at.measure for at in places],
        [at.block_us for at in places],
        [at.partition for at in places],
    )
