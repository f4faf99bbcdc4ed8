"""What is prepared ahead serves its batch, once; what fails is repeated, then parked."""

from functools import partial

import pytest

from gyral.kit.batches import Slice
from gyral.kit.flushing import Flusher
from gyral.kit.offsets import Fenced
from gyral.kit.reactions import LineStopped
from gyral.testkit.sinks import MemorySink
from tests.libs.kit.sink_world import Record


def a_slice(first, end, *, partition=0):
    records = tuple(Record(partition, offset, b"x") for offset in range(first, end))
    return Slice("t", partition, records, first or None)


class Sink:
    """A sink that says what each batch was handled by, and fails as often as it is told to."""

    def __init__(self, *, bad_to_prepare=False, failures=0):
        self.store = MemorySink()
        self.bad_to_prepare = bad_to_prepare
        self.failures = failures
        self.attempts = []
        self.flusher = Flusher(
            "g", self.store.begin, self.handle, self.prepare, retries=1, patience_s=1.0
        )

    async def prepare(self, slices):
        if self.bad_to_prepare:
            raise ValueError("cannot be taken apart")
        return partial(self.write, ("ahead", len(slices)))

    async def handle(self, batch):
        await self.prepare(batch.slices)
        await self.write(("whole", len(batch.slices)), batch)

    async def write(self, how, batch):
        self.attempts.append(how)
        if self.failures:
            self.failures -= 1
            raise ValueError("failed")
        async with batch.commit() as tx:
            await tx.write(
                [str(record.offset) for part in batch.slices for record in part.records]
            )


async def test_what_was_prepared_serves_its_batch_and_no_later_one():
    sink = Sink()
    await sink.flusher.prepare((a_slice(0, 3),))
    await sink.flusher.flush((a_slice(0, 3),))
    await sink.flusher.flush((a_slice(3, 5),))
    assert sink.attempts == [("ahead", 1), ("whole", 1)]
    assert sink.store.output == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "left",
    [
        (a_slice(0, 3),),
        (a_slice(0, 3), a_slice(0, 1, partition=1)),
        (Slice("t", 0, a_slice(0, 3).records, 0), a_slice(0, 2, partition=1)),
    ],
    ids=["a partition is lost", "records are cut", "a partition goes on from elsewhere"],
)
async def test_what_was_prepared_is_dropped_once_a_rebalance_has_cut_the_batch(left):
    sink = Sink()
    sink.store.offsets = {
        ("g", "t", part.partition): 0 for part in left if part.first_offset == 0
    }
    await sink.flusher.prepare((a_slice(0, 3), a_slice(0, 2, partition=1)))
    await sink.flusher.flush(left)
    assert sink.attempts == [("whole", len(left))]
    assert len(sink.store.output) == sum(len(part.records) for part in left)


async def test_a_batch_that_is_repeated_is_prepared_anew():
    sink = Sink(failures=1)
    await sink.flusher.prepare((a_slice(0, 3),))
    await sink.flusher.flush((a_slice(0, 3),))
    assert sink.attempts == [("ahead", 1), ("whole", 1)]
    assert sink.store.output == ["0", "1", "2"]


async def test_what_cannot_be_prepared_is_raised_at_its_turn_and_commits_nothing():
    sink = Sink(bad_to_prepare=True)
    await sink.flusher.prepare((a_slice(0, 3),))
    with pytest.raises(ValueError, match="taken apart"):
        await sink.flusher.flush((a_slice(0, 3),))
    assert sink.store.output == []


async def test_what_could_not_be_prepared_once_is_handled_at_its_turn():
    sink = Sink(bad_to_prepare=True)
    await sink.flusher.prepare((a_slice(0, 3),))
    sink.bad_to_prepare = False
    await sink.flusher.flush((a_slice(0, 3),))
    assert sink.attempts == [("whole", 1)]


UNFORESEEN = "nobody foresaw this"


class Choosy:
    """A sink that cannot handle some offsets, and parks them."""

    def __init__(self, *bad, park=True, passing=0):
        self.store = MemorySink()
        self.bad = set(bad)
        self.passing = passing
        self.bad_to_park = None
        self.flusher = Flusher(
            "g",
            self.store.begin,
            self.handle,
            park=self.park if park else None,
            retries=1,
            patience_s=1.0,
        )

    async def handle(self, batch):
        found = [record for part in batch.slices for record in part.records]
        if self.bad & {record.offset for record in found}:
            raise ValueError(UNFORESEEN)
        if self.passing:
            self.passing -= 1
            raise ValueError("for a moment")
        await self.write(batch, "")

    async def park(self, batch, error):
        if self.bad_to_park is not None:
            raise self.bad_to_park
        await self.write(batch, f" parked: {error}")

    async def write(self, batch, how):
        async with batch.commit() as tx:
            await tx.write(
                [
                    f"{each.partition}/{each.offset}{how}"
                    for part in batch.slices
                    for each in part.records
                ]
            )


async def test_of_a_batch_that_fails_only_what_is_to_blame_is_parked_and_order_is_kept():
    sink = Choosy(3, 10)
    await sink.flusher.flush((a_slice(0, 9), a_slice(0, 13, partition=1)))
    parked = [one for one in sink.store.output if "parked" in one]
    assert parked == [
        f"{place} parked: nobody foresaw this" for place in ("0/3", "1/3", "1/10")
    ]
    for partition, end in ((0, 9), (1, 13)):
        places = [one.split()[0] for one in sink.store.output]
        assert [one for one in places if one.startswith(f"{partition}/")] == [
            f"{partition}/{offset}" for offset in range(end)
        ]
        assert sink.store.offsets["g", "t", partition] == end


async def test_a_fault_that_passes_parks_nothing():
    sink = Choosy(passing=3)
    await sink.flusher.flush((a_slice(0, 2),))
    assert sorted(sink.store.output) == ["0/0", "0/1"]


async def test_where_everything_fails_the_line_stops_and_few_are_parked():
    sink = Choosy(*range(100))
    with pytest.raises(
        LineStopped, match=r"10 records failed in a row, the last at t/0/9: Val"
    ):
        await sink.flusher.flush((a_slice(0, 64),))
    assert len(sink.store.output) == 9
    assert sink.store.offsets["g", "t", 0] == 9


async def test_without_a_place_to_park_in_the_batch_fails_whole():
    sink = Choosy(3, park=False)
    with pytest.raises(ValueError, match="nobody foresaw"):
        await sink.flusher.flush((a_slice(0, 5),))
    assert sink.store.output == []


async def test_the_breaker_counts_what_was_parked_and_not_what_could_not_be():
    sink = Choosy(0)
    sink.bad_to_park = ValueError("nowhere to park")
    for _ in range(12):
        with pytest.raises(ValueError, match="nowhere"):
            await sink.flusher.flush((a_slice(0, 1),))
    sink.bad_to_park = None
    await sink.flusher.flush((a_slice(0, 1),))
    assert sink.store.output == ["0/0 parked: nobody foresaw this"]


class Overtaken(Choosy):
    """One whose partition another process moves on as soon as it has written."""

    async def write(self, batch, how):
        await super().write(batch, how)
        self.store.offsets["g", "t", 0] = 100


async def test_who_loses_a_partition_between_two_halves_writes_no_more():
    sink = Overtaken(3)
    with pytest.raises(Fenced):
        await sink.flusher.flush((a_slice(0, 8),))
    assert sink.store.output == ["0/0", "0/1"]


async def test_a_fault_is_told_without_what_it_says(capsys):
    await Choosy(0).flusher.flush((a_slice(0, 1),))
    said = capsys.readouterr().out
    assert "in handle" in said
    assert UNFORESEEN not in said
