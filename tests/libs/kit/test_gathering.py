"""What comes in one turn of the loop is handed over together, in its order."""

import asyncio

import pytest

from gyral.kit.gathering import Gathering


async def test_what_comes_alone_is_handed_over_at_once():
    taken: list[list[int]] = []
    gathering: Gathering[int] = Gathering(lambda items: taken.append(list(items)))
    adding = gathering.add(1)
    with pytest.raises(StopIteration):  # it ends without a turn of the loop
        adding.send(None)
    assert taken == [[1]]


async def test_after_a_turn_with_many_the_next_ones_are_handed_over_together():
    taken: list[list[int]] = []
    gathering: Gathering[int] = Gathering(lambda items: taken.append(list(items)))
    await asyncio.gather(*(gathering.add(number) for number in range(3)))
    await asyncio.gather(*(gathering.add(number) for number in range(3, 9)))
    assert taken == [[0], [1], [2], [3, 4, 5, 6, 7, 8]]


async def test_after_a_turn_with_one_the_next_one_is_handed_over_at_once():
    taken: list[list[int]] = []
    gathering: Gathering[int] = Gathering(lambda items: taken.append(list(items)))
    await asyncio.gather(*(gathering.add(number) for number in range(3)))
    await gathering.add(3)
    adding = gathering.add(4)
    with pytest.raises(StopIteration):
        adding.send(None)
    assert taken[-2:] == [[3], [4]]


async def test_whoever_waits_hears_of_a_failure():
    def refuse(_):
        raise OSError("full")

    gathering = Gathering(refuse)
    for _ in range(2):
        failures = await asyncio.gather(
            *(gathering.add(number) for number in range(3)), return_exceptions=True
        )
        assert [str(failure) for failure in failures] == ["full"] * 3


async def test_who_stops_waiting_takes_nobody_along():
    taken: list[list[int]] = []
    gathering: Gathering[int] = Gathering(lambda items: taken.append(list(items)))
    await asyncio.gather(*(gathering.add(number) for number in range(3)))
    tasks = [asyncio.create_task(gathering.add(number)) for number in (3, 4)]
    gone, kept = tasks
    asyncio.get_running_loop().call_soon(gone.cancel)
    await asyncio.wait(tasks)
    assert gone.cancelled()
    assert kept.exception() is None
    assert taken[-1] == [3, 4]


async def test_a_flush_leaves_nothing_behind():
    taken: list[list[int]] = []
    gathering: Gathering[int] = Gathering(lambda items: taken.append(list(items)))
    await asyncio.gather(*(gathering.add(number) for number in range(3)))
    task = asyncio.create_task(gathering.add(3))
    asyncio.get_running_loop().call_soon(gathering.flush)
    await task
    assert taken[-1] == [3]
