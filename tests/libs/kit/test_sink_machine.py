"""Ten thousand steps of assign, revoke, crash, freeze, commit: each record has one effect."""

import asyncio
import gc
import random
from collections import Counter
from functools import partial
from typing import ClassVar

import pytest
from aiokafka import TopicPartition
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gyral.kit import dataplane
from tests.libs.kit.sink_world import TOPIC, Consumer, JumpingLoop, Process, World, pause

PARTITIONS = 2
MOST_PROCESSES = 3
STEPS = 50
HISTORIES = 340
SETTLED_S = 120.0
AWAY = (ConnectionResetError, TimeoutError)
picks = st.integers(0, 2**16)


class SinkMachine(RuleBasedStateMachine):
    """Real data planes over a group that rebalances, dies and freezes at will."""

    taken: ClassVar[Counter[str]] = Counter()
    ahead: ClassVar[list[int]] = []
    """Of each history, the attempts that began with what had been prepared."""

    def __init__(self):
        super().__init__()
        self.loop = JumpingLoop()
        self.rng = random.Random(0)
        self.world = World(PARTITIONS, self._tick)
        self.names = 0

    async def _tick(self):
        """Let others go first, now and then for long."""
        await pause(self.rng.choice((0.0, 0.0, 0.01, 0.2)))

    def _live(self, seconds):
        self.loop.run_until_complete(pause(seconds))

    def _pick(self, number):
        return self.world.processes[number % len(self.world.processes)]

    @rule(seed=picks)
    def draw_another_order(self, seed):
        self.rng.seed(seed)

    @rule(partition=st.integers(0, PARTITIONS - 1), count=st.integers(1, 6))
    def produce(self, partition, count):
        self._count("produce")
        self.world.produce(partition, count)

    @precondition(lambda self: len(self.world.processes) < MOST_PROCESSES)
    @rule()
    def start(self):
        self._count("start")
        self.names += 1

        async def begin():
            self.world.processes.append(Process(self.world, f"p{self.names}"))

        self.loop.run_until_complete(begin())

    @precondition(lambda self: self.world.processes)
    @rule(owners=st.lists(st.none() | picks, min_size=PARTITIONS, max_size=PARTITIONS))
    def assign_and_revoke(self, owners):
        self._count("assign and revoke")
        self.world.assign(
            {at: self._pick(number) for at, number in enumerate(owners) if number is not None}
        )

    @rule()
    def give_all_back_to_whom_they_were_taken_from(self):
        """What every change of the group's members does."""
        self._count("assign again")
        self.world.assign(self.world.owners)

    @precondition(lambda self: self.world.processes)
    @rule(number=picks)
    def crash(self, number):
        self._count("crash")
        process = self._pick(number)
        self.world.remove(process)
        self.loop.run_until_complete(process.die())

    @precondition(lambda self: self.world.processes)
    @rule(number=picks)
    def freeze(self, number):
        self._count("freeze")
        self._pick(number).freeze()

    @precondition(lambda self: any(process.frozen for process in self.world.processes))
    @rule(number=picks)
    def thaw(self, number):
        self._count("thaw")
        frozen = [process for process in self.world.processes if process.frozen]
        frozen[number % len(frozen)].thaw()

    @precondition(lambda self: self.world.processes)
    @rule(number=picks, kind=st.sampled_from(AWAY))
    def be_away(self, number, kind):
        self._count("be away")
        self._pick(number).trouble.append(kind("away"))

    @rule(seconds=st.sampled_from((0.0, 0.01, 0.1, 0.5, 3.0)))
    def live(self, seconds):
        self._count("live")
        self._live(seconds)

    @invariant()
    def each_record_takes_effect_once_in_order_and_with_its_offset(self):
        for partition in range(PARTITIONS):
            assert self.world.written(partition) == list(range(self.world.stored(partition)))

    @invariant()
    def no_plane_ends_by_itself(self):
        for process in self.world.processes:
            assert not process.task.done() or process.task.result() is None

    def teardown(self):
        """Whatever happened: once somebody lives and has all partitions, nothing is missing."""
        try:
            for process in self.world.processes:
                process.thaw()
                process.trouble.clear()
            self.start() if not self.world.processes else None
            self._live(0.5)
            self.assign_and_revoke([0] * PARTITIONS)
            due_s = self.loop.time() + SETTLED_S
            while self.loop.time() < due_s and not self._complete():
                self._live(1.0)
            self.each_record_takes_effect_once_in_order_and_with_its_offset()
            self.no_plane_ends_by_itself()
            assert self._complete()
        finally:
            self.ahead.append(self.world.ahead)
            for process in list(self.world.processes):
                self.loop.run_until_complete(process.die())
            self.loop.close()

    def _complete(self):
        ends = [len(records) for records in self.world.log]
        return ends == [self.world.stored(partition) for partition in range(PARTITIONS)]

    def _count(self, name):
        self.taken[name] += 1


@pytest.fixture(autouse=True)
def kafka_in_memory(monkeypatch):
    """Planes ask for a consumer; they get the one of the process that they are of."""

    def made(**_options):
        task = asyncio.current_task()
        assert task is not None
        [process] = [one for one in living if one.task is task]
        return Consumer(process)

    living = []
    born = Process.__init__

    def bear(process, *arguments):
        born(process, *arguments)
        living.append(process)

    monkeypatch.setattr(Process, "__init__", bear)
    monkeypatch.setattr(dataplane, "SinkConsumer", made)


def test_every_record_takes_effect_exactly_once_in_ten_thousand_steps():
    SinkMachine.taken.clear()
    SinkMachine.ahead.clear()
    # Hypothesis parses this file; CPython 3.11 fails when finalizers run in the midst of that.
    gc.collect()
    run_state_machine_as_test(
        SinkMachine,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert SinkMachine.taken.total() >= 10_000
    assert all(count > HISTORIES / 8 for count in SinkMachine.taken.values())
    assert sum(SinkMachine.ahead) > HISTORIES


async def test_a_partition_that_is_lost_while_it_is_asked_for_is_left_alone():
    """The machine found it: a fenced batch asks where to go on, a rebalance comes between."""
    world = World(1, partial(pause, 0.0))
    process = Process(world, "one")
    consumer = Consumer(process)
    await process.plane._position(consumer, [TopicPartition(TOPIC, 0)])  # noqa: SLF001
    assert process.plane.ready() is not None
    await process.die()
