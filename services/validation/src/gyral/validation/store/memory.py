"""What was accepted before, held here to be searched and in Postgres to be kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from gyral.kit.batches import Slice
from gyral.kit.db import Pool
from gyral.modelling.contents import Halves
from gyral.validation.domain.identity import Identity
from gyral.validation.domain.segments import Identities, Segment, Window, to_merge

MOST_ROWS = 1 << 20
"""Rows beyond which a segment is left as it is."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment and the row of Postgres that holds it."""

    id: int
    segment: Segment
    newest_us: int
    seen_us: int


@dataclass(frozen=True, slots=True)
class Learned:
    """What a batch adds to the memory of one stream in one partition."""

    stream: str
    partition: int
    segment: Segment
    newest_us: int
    """Newest event time among them."""
    seen_us: int
    """When the latest of them was accepted."""
    instead_of: tuple[int, ...]
    """Segments that the new one replaces."""


class Memory:
    """What was accepted in the partitions this process reads; Postgres holds the same.

    It follows the stored offsets: a partition that another process read meanwhile is read
    from Postgres again before it is asked for anything.
    """

    def __init__(self, pool: Pool, *, hours: float, now_us: Callable[[], int]) -> None:
        self._pool = pool
        self._arrived_us = round(hours * 3.6e9)
        self._now_us = now_us
        self._newest_us: dict[tuple[str, int], int] = {}
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
        order = np.argsort(keys[:, 0])  # in order, neighbours are looked for near each other
        ordered = keys[order]
        for kept in await self._segments(stream, partition):
            rows = kept.segment.rows
            places = kept.segment.places(ordered)
            for hit in np.flatnonzero(places >= 0):
                at, place = int(order[hit]), places[hit]
                known = found.get(at)
                revision = int(rows.revisions[place])
                if known is None or known.revision <= revision:
                    found[at] = Identity(
                        rows.contents[place].tobytes(), int(rows.times_us[place]), revision
                    )
        return found

    async def learn(
        self, stream: str, partition: int, rows: Identities, dedupe_us: int
    ) -> list[Learned]:
        """Return what is to be written for these accepted rows; nothing is changed yet."""
        kept = await self._segments(stream, partition)
        window = Window(dedupe_us, self._arrived_us)
        seen_us = self._now_us()
        newest_us = max(
            self._newest_us.get((stream, partition), 0), int(rows.times_us.max(initial=0))
        )
        by_slab: dict[tuple[int, int], list[Kept]] = {}
        for one in kept:
            slab = window.slab(one.newest_us, one.seen_us, newest_us)
            by_slab.setdefault(slab, []).append(one)
        return [
            _learned(stream, partition, rows.take(chosen), by_slab.get(slab, []), seen_us)
            for slab, chosen in window.split(rows.times_us, seen_us, newest_us)
        ]

    def settle(
        self, slices: Sequence[Slice], learned: Sequence[Learned], ids: Sequence[int]
    ) -> None:
        """Take over what a transaction has committed."""
        for part in slices:
            self._reached[part.partition] = part.next_offset
        for one, id_ in zip(learned, ids, strict=True):
            kept = self._kept[one.stream, one.partition]
            kept[:] = [old for old in kept if old.id not in one.instead_of]
            kept.append(Kept(id_, one.segment, one.newest_us, one.seen_us))
            newest_us = self._newest_us.get((one.stream, one.partition), 0)
            self._newest_us[one.stream, one.partition] = max(newest_us, one.newest_us)

    async def forget(self, stream: str, dedupe_us: int) -> None:
        """Forget rows `dedupe_us` behind the watermark that came before the hours kept."""
        before = datetime.fromtimestamp((self._now_us() - self._arrived_us) / 1e6, UTC)
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
                   AND known.seen_at < $4
                RETURNING known.id
                """,
                stream,
                partition,
                dedupe_us,
                before,
            )
            ids = {row["id"] for row in gone}
            kept[:] = [one for one in kept if one.id not in ids]

    async def _segments(self, stream: str, partition: int) -> list[Kept]:
        """Return the segments, oldest first."""
        known = self._kept.get((stream, partition))
        if known is None:
            rows = await self._pool.fetch(
                """
                SELECT id, newest_us, seen_at, columns FROM identity_segment
                 WHERE stream = $1 AND partition = $2
                 ORDER BY id
                """,
                stream,
                partition,
            )
            known = [
                Kept(
                    row["id"],
                    Segment(Identities.from_bytes(row["columns"])),
                    row["newest_us"],
                    round(row["seen_at"].timestamp() * 1e6),
                )
                for row in rows
            ]
            self._kept[stream, partition] = known
            newest_us = max((one.newest_us for one in known), default=0)
            self._newest_us[stream, partition] = newest_us
        return known

    def _drop(self, partition: int) -> None:
        self._kept = {
            place: kept for place, kept in self._kept.items() if place[1] != partition
        }


def _learned(
    stream: str, partition: int, rows: Identities, slab: Sequence[Kept], seen_us: int
) -> Learned:
    """Return the segment that these rows become with what is merged of their slab."""
    count = to_merge([len(one.segment) for one in slab], len(rows), most=MOST_ROWS)
    merged = slab[len(slab) - count :]
    segment = Segment.of([*(one.segment.rows for one in merged), rows])
    return Learned(
        stream=stream,
        partition=partition,
        segment=segment,
        newest_us=int(segment.rows.times_us.max()),
        seen_us=seen_us,
        instead_of=tuple(one.id for one in merged),
    )
