"""What was accepted before, held here to be searched and in Postgres to be kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gyral.kit.batches import Slice
from gyral.kit.db import Pool
from gyral.modelling.contents import Halves
from gyral.validation.domain.identity import Identity
from gyral.validation.domain.segments import Identities, Segment, to_merge

MOST_ROWS = 1 << 20
"""Rows beyond which a segment is left as it is."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment and the row of Postgres that holds it."""

    id: int
    segment: Segment


@dataclass(frozen=True, slots=True)
class Learned:
    """What a batch adds to the memory of one stream in one partition."""

    stream: str
    partition: int
    segment: Segment
    instead_of: tuple[int, ...]
    """Segments that the new one replaces."""


class Memory:
    """What was accepted in the partitions this process reads; Postgres holds the same.

    It follows the stored offsets: a partition that another process read meanwhile is read
    from Postgres again before it is asked for anything.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._reached: dict[int, int | None] = {}
        self._kept: dict[tuple[str, int], list[Kept]] = {}

    def follow(self, slices: Sequence[Slice]) -> None:
        """Keep only what holds for partitions that continue at these offsets."""
        for part in slices:
            place = part.partition
            if place not in self._reached or self._reached[place] != part.first_offset:
                self._drop(place)
                self._reached[place] = part.first_offset

    async def find(self, stream: str, partition: int, keys: Halves) -> dict[int, Identity]:
        """Return the accepted rows of these keys, shape (keys, 2), by the keys' places."""
        found: dict[int, Identity] = {}
        for kept in await self._segments(stream, partition):
            rows = kept.segment.rows
            places = kept.segment.places(keys)
            for at in np.flatnonzero(places >= 0):
                place = places[at]
                found[int(at)] = Identity(
                    rows.contents[place].tobytes(),
                    int(rows.times_us[place]),
                    int(rows.revisions[place]),
                )
        return found

    async def learn(self, stream: str, partition: int, rows: Identities) -> Learned:
        """Return what is to be written for these accepted rows; nothing is changed yet."""
        kept = await self._segments(stream, partition)
        count = to_merge([len(one.segment) for one in kept], len(rows), most=MOST_ROWS)
        merged = kept[len(kept) - count :]
        return Learned(
            stream=stream,
            partition=partition,
            segment=Segment.of([*(one.segment.rows for one in merged), rows]),
            instead_of=tuple(one.id for one in merged),
        )

    def settle(
        self, slices: Sequence[Slice], learned: Sequence[Learned], ids: Sequence[int]
    ) -> None:
        """Take over what a transaction has committed."""
        for part in slices:
            self._reached[part.partition] = part.next_offset
        for one, id_ in zip(learned, ids, strict=True):
            kept = self._kept[one.stream, one.partition]
            kept[:] = [old for old in kept if old.id not in one.instead_of]
            kept.append(Kept(id_, one.segment))

    async def forget(self, stream: str, dedupe_us: int, *, hours: float) -> None:
        """Forget rows `dedupe_us` behind the watermark that came more than `hours` ago."""
        for (name, partition), kept in list(self._kept.items()):
            if name != stream:
                continue
            gone = await self._pool.fetch(
                """
                DELETE FROM identity_segment AS known
                 USING stream_progress AS progress
                 WHERE known.stream = $1
                   AND known.partition = $2
                   AND progress.stream = known.stream
                   AND known.newest_us < progress.watermark_us - $3::bigint
                   AND known.seen_at < now() - make_interval(secs => $4)
                RETURNING known.id
                """,
                stream,
                partition,
                dedupe_us,
                hours * 3600,
            )
            ids = {row["id"] for row in gone}
            kept[:] = [one for one in kept if one.id not in ids]

    async def _segments(self, stream: str, partition: int) -> list[Kept]:
        """Return the segments, oldest first."""
        known = self._kept.get((stream, partition))
        if known is None:
            rows = await self._pool.fetch(
                """
                SELECT id, columns FROM identity_segment
                 WHERE stream = $1 AND partition = $2
                 ORDER BY id
                """,
                stream,
                partition,
            )
            known = [
                Kept(row["id"], Segment(Identities.from_bytes(row["columns"]))) for row in rows
            ]
            self._kept[stream, partition] = known
        return known

    def _drop(self, partition: int) -> None:
        self._kept = {
            place: kept for place, kept in self._kept.items() if place[1] != partition
        }
