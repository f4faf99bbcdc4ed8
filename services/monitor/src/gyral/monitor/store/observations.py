"""What arrived and is not judged yet: watermarks, live predictions, counts and labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from gyral.contracts.data import LabelsAccepted
from gyral.contracts.inference import PredictionLogged
from gyral.kit.tx import Tx
from gyral.modelling.columns import Ints
from gyral.monitor.domain.joining import Label, Predictions
from gyral.monitor.domain.watches import Watch

PREDICTIONS = PredictionLogged.topic.name
LABELS = LabelsAccepted.topic.name
PARTITIONS = {
    topic.name: topic.partitions for topic in (PredictionLogged.topic, LabelsAccepted.topic)
}
"""A watermark needs a word from each partition."""

WatermarkRow = tuple[str, str, int, int]
"""Topic, subject, partition, microseconds."""


@dataclass(slots=True)
class PredictionRows:
    """Live predictions as columns of equal length."""

    models: list[str] = field(default_factory=list)
    request_ids: list[UUID] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    entities: list[str | None] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)
    answered_us: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)


@dataclass(slots=True)
class LabelRows:
    """Labels as columns of equal length."""

    sources: list[str] = field(default_factory=list)
    entities: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)
    seen_us: list[int] = field(default_factory=list)
    numbers: list[float | None] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows per cell of one version in one block."""

    model: str
    version: int
    block_us: int
    counts: Ints


@dataclass(frozen=True, slots=True)
class Unbinned:
    """Rows of one request that wait for their version's bins."""

    model: str
    version: int
    block_us: int
    request_id: UUID
    rows: Sequence[int]
    features: bytes


class ObservationTx(Tx):
    """A transaction over what was observed in blocks that are still open."""

    async def watermarks(self, topics: Sequence[str]) -> dict[tuple[str, str, int], int]:
        """Return how far each partition of these topics is, by topic, subject and number."""
        rows = await self.conn.fetch(
            """
            SELECT topic, subject, partition, event_us
              FROM watermark
             WHERE topic = ANY($1::text[])
            """,
            topics,
        )
        return {(r["topic"], r["subject"], r["partition"]): r["event_us"] for r in rows}

    async def advance_watermarks(self, marks: Iterable[WatermarkRow]) -> None:
        """Remember how far partitions are; none ever goes back."""
        await self.conn.executemany(
            """
            INSERT INTO watermark (topic, subject, partition, event_us)
            VALUES ($1, $2, $3, $4)
                ON CONFLICT (topic, subject, partition) DO UPDATE
               SET event_us = greatest(watermark.event_us, $4)
            """,
            sorted(marks),
        )

    async def watermarks_of(self, watch: Watch) -> tuple[int | None, int | None]:
        """Return how far a model's predictions and its labels are."""
        predicted = await self.watermark(PREDICTIONS, watch.model)
        return predicted, await self.watermark(LABELS, watch.source.stream)

    async def watermark(self, topic: str, subject: str) -> int | None:
        """Return the time all partitions have reached, or None while one has said nothing."""
        reached: int | None = await self.conn.fetchval(
            """
            SELECT CASE WHEN count(*) >= $3 THEN min(event_us) END
              FROM watermark
             WHERE topic = $1 AND subject = $2
            """,
            topic, subject, PARTITIONS[topic],
        )  # fmt: skip
        return reached

    async def add_predictions(self, new: PredictionRows) -> set[tuple[str, UUID, int]]:
        """Keep predictions and return which were new, by model, request and row."""
        rows = await self.conn.fetch(
            """
            INSERT INTO prediction (model, request_id, row, version, entity,
                                    event_us, answered_us, probability)
            SELECT * FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::integer[],
                                 $5::text[], $6::bigint[], $7::bigint[], $8::float8[])
                ON CONFLICT DO NOTHING
            RETURNING model, request_id, row
            """,
            new.models, new.request_ids, new.rows, new.versions, new.entities,
            new.times_us, new.answered_us, new.probabilities,
        )  # fmt: skip
        return {(row[0], row[1], row[2]) for row in rows}

    async def add_counts(self, counts: Iterable[Counts]) -> None:
        """Add rows to the histograms of their blocks."""
        await self.conn.executemany(
            """
            INSERT INTO histogram (model, version, block_us, counts)
            VALUES ($1, $2, $3, $4)
                ON CONFLICT (model, version, block_us) DO UPDATE
               SET counts = (SELECT array_agg(sums.old + sums.new ORDER BY sums.at)
                               FROM unnest(histogram.counts, excluded.counts)
                                    WITH ORDINALITY AS sums (old, new, at))
            """,
            # One order for all writers, so that two never wait for each other.
            sorted((it.model, it.version, it.block_us, it.counts.tolist()) for it in counts),
        )

    async def add_unbinned(self, waiting: Iterable[Unbinned]) -> None:
        """Keep rows that cannot be counted yet; rows of one request add up."""
        await self.conn.executemany(
            """
            INSERT INTO unbinned (model, version, block_us, request_id, rows, features)
            VALUES ($1, $2, $3, $4, $5, $6)
                ON CONFLICT DO NOTHING
            """,
            [
                (it.model, it.version, it.block_us, it.request_id, it.rows, it.features)
                for it in waiting
            ],
        )

    async def add_labels(self, new: LabelRows) -> None:
        """Keep labels; a revision that is known is not kept twice."""
        await self.conn.execute(
            """
            INSERT INTO label (source, entity, key, revision, event_us, seen_us, number, text)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[],
                                 $5::bigint[], $6::bigint[], $7::float8[], $8::text[])
                ON CONFLICT DO NOTHING
            """,
            new.sources, new.entities, new.keys, new.revisions,
            new.times_us, new.seen_us, new.numbers, new.texts,
        )  # fmt: skip

    async def block_starts(
        self, model: str, block_us: int, from_us: int | None, before_us: int
    ) -> list[int]:
        """Return the starts of blocks that hold predictions between two times, in order."""
        rows = await self.conn.fetch(
            """
            SELECT DISTINCT event_us / $2 * $2 AS start_us
              FROM prediction
             WHERE model = $1 AND event_us < $3 AND ($4::bigint IS NULL OR event_us >= $4)
             ORDER BY start_us
            """,
            model, block_us, before_us, from_us,
        )  # fmt: skip
        return [row["start_us"] for row in rows]

    async def predictions(self, model: str, start_us: int, end_us: int) -> Predictions:
        """Return a block's predictions in order of event time, the later answer last."""
        rows = await self.conn.fetch(
            """
            SELECT version, entity, event_us, probability
              FROM prediction
             WHERE model = $1 AND event_us >= $2 AND event_us < $3
             ORDER BY event_us, answered_us, request_id, row
            """,
            model, start_us, end_us,
        )  # fmt: skip
        return Predictions(
            np.array([row[0] for row in rows], np.int64),
            [row[1] for row in rows],
            np.array([row[2] for row in rows], np.int64),
            np.array([row[3] for row in rows], np.float64),
        )

    async def labels(self, source: str, entities: Sequence[str], before_us: int) -> list[Label]:
        """Return the labels of these entities that were seen before a time."""
        rows = await self.conn.fetch(
            """
            SELECT entity, key, revision, event_us, number, text
              FROM label
             WHERE source = $1 AND entity = ANY($2::text[]) AND seen_us < $3
            """,
            source, entities, before_us,
        )  # fmt: skip
        return [Label(*row) for row in rows]

    async def counts(
        self, model: str, version: int, start_us: int, end_us: int
    ) -> list[list[int]]:
        """Return the histograms of a version between two times."""
        rows = await self.conn.fetch(
            """
            SELECT counts FROM histogram
             WHERE model = $1 AND version = $2 AND block_us >= $3 AND block_us < $4
            """,
            model, version, start_us, end_us,
        )  # fmt: skip
        return [row["counts"] for row in rows]

    async def unbinned(
        self, model: str, version: int, start_us: int, end_us: int
    ) -> list[Unbinned]:
        """Return the rows of a version between two times that were never counted."""
        rows = await self.conn.fetch(
            """
            SELECT model, version, block_us, request_id, rows, features FROM unbinned
             WHERE model = $1 AND version = $2 AND block_us >= $3 AND block_us < $4
            """,
            model, version, start_us, end_us,
        )  # fmt: skip
        return [Unbinned(*row) for row in rows]

    async def forget(self, model: str, before_us: int) -> None:
        """Drop what was observed in blocks that are closed: the lake has it."""
        await self.conn.execute(
            "DELETE FROM prediction WHERE model = $1 AND event_us < $2", model, before_us
        )
        await self.conn.execute(
            "DELETE FROM histogram WHERE model = $1 AND block_us < $2", model, before_us
        )
        await self.conn.execute(
            "DELETE FROM unbinned WHERE model = $1 AND block_us < $2", model, before_us
        )

    async def expire_labels(self, source: str, before_us: int) -> int:
        """Drop labels that no open block can use and return how many."""
        done = await self.conn.execute(
            "DELETE FROM label WHERE source = $1 AND event_us < $2", source, before_us
        )
        return int(done.rpartition(" ")[2])
