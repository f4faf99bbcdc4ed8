"""A histogram as Prometheus reads it."""

from prometheus_client import CollectorRegistry, generate_latest

from gyral.kit.timings import Timings


def shown(timings):
    registry = CollectorRegistry()
    timings.shown_in(registry)
    return generate_latest(registry).decode().splitlines()


def test_buckets_are_cumulative_and_bounds_belong_to_them():
    timings = Timings("t_seconds", "Time", label="status")
    for seconds in (0.0005, 0.0006, 0.0007, 20.0):
        timings.record(seconds, "200")
    timings.record(0.3, "429")
    lines = shown(timings)
    assert 't_seconds_bucket{le="0.0005",status="200"} 1.0' in lines
    assert 't_seconds_bucket{le="0.001",status="200"} 3.0' in lines
    assert 't_seconds_bucket{le="10.0",status="200"} 3.0' in lines
    assert 't_seconds_bucket{le="+Inf",status="200"} 4.0' in lines
    assert 't_seconds_count{status="200"} 4.0' in lines
    assert 't_seconds_sum{status="429"} 0.3' in lines


def test_two_of_one_name_may_be_shown():
    registry = CollectorRegistry()
    Timings("t_seconds", "Time", label="status").shown_in(registry)
    Timings("t_seconds", "Time", label="status").shown_in(registry)
