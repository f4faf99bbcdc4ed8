"""What was judged: closed blocks, detectors, alarms and requests."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gyral.contracts.training import Cause
from gyral.kit.tx import Tx
from gyral.monitor.domain.judging import Detectors, Evidence, Request

Measures = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Watched:
    """How far a model's blocks are closed, and where its detectors stand."""

    closed_until_us: int
    schedule_from_us: int | None
    generation: int | None
    """The reign the detectors belong to; another reign begins with fresh ones."""
    block_us: int | None
    """Length of the blocks the detectors saw; another length begins with fresh ones, too."""
    detectors: Detectors


@dataclass(frozen=True, slots=True)
class Window:
    """One closed block, measured."""

    model: str
    start_us: int
    end_us: int
    version: int
    rows: int
    labelled_rows: int
    measures: Measures
    worst_feature: str | None


@dataclass(frozen=True, slots=True)
class StoredAlarm:
    """One detector's alarm at one block; a warning of drift has a feature and no request."""

    model: str
    start_us: int
    detector: str
    version: int
    measured: float
    threshold: float
    feature: str | None = None
    request_id: str | None = None


class WindowTx(Tx):
    """A transaction over judged blocks."""

    async def hold(self, model: str) -> None:
        """Let no other transaction close this model's blocks until the end of this one."""
        await self.conn.execute(
            "SELECT pg_advisory_xact_lock(hashtext($1))", f"monitor/{model}"
        )

    async def watched(self, model: str) -> Watched | None:
        """Return how far a model is, or None before its first close."""
        row = await self.conn.fetchrow(
            """
            SELECT closed_until_us, schedule_from_us, generation, block_us, detectors
              FROM watched
             WHERE model = $1
            """,
            model,
        )
        if row is None:
            return None
        stored = row["detectors"]
        detectors = msgspec.json.decode(stored, type=Detectors) if stored else Detectors()
        return Watched(
            closed_until_us=row["closed_until_us"],
            schedule_from_us=row["schedule_from_us"],
            generation=row["generation"],
            block_us=row["block_us"],
            detectors=detectors,
        )

    async def closed_until(self, models: Sequence[str]) -> dict[str, int]:
        """Return up to where the blocks of these models are closed; those never closed lack."""
        rows = await self.conn.fetch(
            "SELECT model, closed_until_us FROM watched WHERE model = ANY($1::text[])", models
        )
        return {row["model"]: row["closed_until_us"] for row in rows}

    async def settle(self, model: str, watched: Watched) -> None:
        """Remember how far a model is now."""
        await self.conn.execute(
            """
            INSERT INTO watched (model, closed_until_us, schedule_from_us, generation, block_us,
                                 detectors)
            VALUES ($1, $2, $3, $4, $5, $6)
                ON CONFLICT (model) DO UPDATE
               SET closed_until_us = $2, schedule_from_us = $3, generation = $4, block_us = $5,
                   detectors = $6
            """,
            model, watched.closed_until_us, watched.schedule_from_us, watched.generation,
            watched.block_us, msgspec.json.encode(watched.detectors).decode(),
        )  # fmt: skip

    async def add_window(self, window: Window) -> None:
        """Keep a closed block's measures."""
        await self.conn.execute(
            """
            INSERT INTO measurement (model, start_us, end_us, version, rows, labelled_rows,
                                     measures, worst_feature)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            window.model, window.start_us, window.end_us, window.version, window.rows,
            window.labelled_rows, json.dumps(dict(window.measures)), window.worst_feature,
        )  # fmt: skip

    async def labelled_since(self, model: str, since_us: int) -> int:
        """Count the labelled rows of closed blocks that began at or after a time."""
        rows: int = await self.conn.fetchval(
            """
            SELECT coalesce(sum(labelled_rows), 0)::bigint
              FROM measurement
             WHERE model = $1 AND start_us >= $2
            """,
            model, since_us,
        )  # fmt: skip
        return rows

    async def add_request(self, model: str, request: Request) -> None:
        """Keep a request for a training."""
        await self.conn.execute(
            """
            INSERT INTO request (request_id, model, as_of_us, cause, evidence)
            VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT DO NOTHING
            """,
            request.request_id, model, request.as_of_us, request.cause,
            json.dumps(dict(request.evidence)),
        )  # fmt: skip

    async def add_alarm(self, alarm: StoredAlarm) -> None:
        """Keep an alarm."""
        await self.conn.execute(
            """
            INSERT INTO alarm (model, start_us, detector, version, measured, threshold,
                               feature, request_id)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                ON CONFLICT DO NOTHING
            """,
            alarm.model, alarm.start_us, alarm.detector, alarm.version, alarm.measured,
            alarm.threshold, alarm.feature, alarm.request_id,
        )  # fmt: skip

    async def requests(self, model: str, after_us: int, limit: int) -> list[Request]:
        """Return the latest requests decided after a time, newest last."""
        rows = await self.conn.fetch(
            """
            SELECT request_id::text, cause, as_of_us, evidence
              FROM request
             WHERE model = $1 AND as_of_us > $2
             ORDER BY as_of_us DESC
             LIMIT $3
            """,
            model, after_us, limit,
        )  # fmt: skip
        return [
            Request(row[0], Cause(row[1]), row[2], _evidence(row[3])) for row in reversed(rows)
        ]

    async def windows(self, model: str, after_us: int, limit: int) -> list[Window]:
        """Return closed blocks that began after a time, oldest first."""
        rows = await self.conn.fetch(
            """
            SELECT model, start_us, end_us, version, rows, labelled_rows, measures,
                   worst_feature
              FROM measurement
             WHERE model = $1 AND start_us > $2
             ORDER BY start_us
             LIMIT $3
            """,
            model, after_us, limit,
        )  # fmt: skip
        return [
            Window(
                model=row["model"],
                start_us=row["start_us"],
                end_us=row["end_us"],
                version=row["version"],
                rows=row["rows"],
                labelled_rows=row["labelled_rows"],
                measures=json.loads(row["measures"]),
                worst_feature=row["worst_feature"],
            )
            for row in rows
        ]

    async def alarms(self, model: str, before_us: int | None, limit: int) -> list[StoredAlarm]:
        """Return alarms of earlier blocks, newest first.

        All of the last block come: beyond `limit`, too.
        """
        rows = await self.conn.fetch(
            """
            SELECT model, start_us, detector, version, measured, threshold, feature,
                   request_id::text
              FROM alarm
             WHERE model = $1 AND ($2::bigint IS NULL OR start_us < $2)
             ORDER BY start_us DESC
             FETCH FIRST $3 ROWS WITH TIES
            """,
            model, before_us, limit,
        )  # fmt: skip
        found = [StoredAlarm(*row) for row in rows]
        return sorted(found, key=lambda alarm: (-alarm.start_us, alarm.detector))


def _evidence(text: str) -> Evidence:
    evidence: Evidence = json.loads(text)
    return evidence
