"""How much of one version may be in hand."""

import pytest

from gyral.gateway.engine.crowding import Crowd, CrowdedError, Room


def entered(crowd, requests, rows=1):
    for _ in range(requests):
        crowd.enter(rows)


def test_a_fast_version_takes_as_many_as_it_may():
    crowd = Crowd(Room(most=256, wait_s=0.1))
    crowd.took(64, 0.001)
    entered(crowd, 256)
    assert crowd.full
    with pytest.raises(CrowdedError, match="256 requests in hand"):
        crowd.enter(1)
    crowd.leave(1)
    crowd.enter(1)


def test_a_slow_version_takes_what_may_wait_and_a_burst_always():
    crowd = Crowd(Room(most=256, wait_s=0.1))
    crowd.took(64, 0.064)
    entered(crowd, 96)
    assert [crowd.full, entered(crowd, 5), crowd.full] == [False, None, True]  # 96, 101 ms
    slower = Crowd(Room(most=256, wait_s=0.1))
    slower.took(1, 1.0)
    entered(slower, 96)
    assert slower.full


def test_rows_count_and_not_requests_alone():
    crowd = Crowd(Room(most=256, wait_s=0.1))
    crowd.took(100, 0.01)
    entered(crowd, 96, rows=10)
    assert [crowd.full, entered(crowd, 5, rows=10), crowd.full] == [False, None, True]


def test_the_pace_follows_the_last_batches():
    crowd = Crowd(Room(most=256, wait_s=0.1))
    crowd.took(1, 1.0)
    entered(crowd, 96)
    for _ in range(40):
        crowd.took(96, 0.001)
    assert not crowd.full


def test_a_small_bound_holds_for_a_burst_too():
    crowd = Crowd(Room(most=3, wait_s=0.1))
    entered(crowd, 3)
    assert crowd.full
