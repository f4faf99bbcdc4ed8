import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gyral.contracts.deployment import Datatype, Input, RouteChanged, Share
from gyral.gateway.domain.routing import (
    NoLiveVersionError,
    RouteTable,
    choose,
    plan,
    point_of,
)

KEYS = [f"flight-{number}" for number in range(4000)]


def a_route(weights, *, shadows=(), epoch=1, model="m"):
    shares = [
        Share(
            version=version,
            weight=weight,
            shadow=version in shadows,
            slot=f"{model}@{version}",
            sha256=f"{version:064x}",
            inputs=(Input(name="x", datatype=Datatype.FP64),),
        )
        for version, weight in weights.items()
    ]
    return RouteChanged(
        model=model, epoch=epoch, shares=tuple(shares), runtime="unix:/x", event_clock=False
    )


def test_a_share_knows_what_it_reads_and_stays_equal_to_another():
    inputs = tuple(Input(name=name, datatype=Datatype.FP32) for name in "ab")
    [share] = a_route({1: 100}).shares
    one, other = (share.model_copy(update={"inputs": inputs}) for _ in range(2))
    assert (one.names, one.datatypes) == (("a", "b"), {Datatype.FP32})
    assert one == other
    assert one.model_dump() == other.model_dump()
    again = one.model_copy(update={"inputs": (Input(name="c", datatype=Datatype.BOOL),)})
    assert (again.names, again.datatypes) == (("c",), {Datatype.BOOL})


def versions(weights, keys=KEYS):
    laid_out = plan(a_route(weights))
    return {key: choose(laid_out, key).version for key in keys}


@pytest.mark.parametrize("candidate", [5, 25, 50])
def test_each_version_gets_its_share_of_the_keys(candidate):
    chosen = versions({1: 100 - candidate, 2: candidate})
    share = sum(version == 2 for version in chosen.values()) / len(KEYS)
    # Five standard errors of a binomial share at 4,000 keys.
    assert abs(share - candidate / 100) < 5 * (candidate / 100 * 0.95 / 4000) ** 0.5 + 0.005


@given(key=st.text(max_size=40), weight=st.integers(1, 99))
def test_a_key_is_always_answered_by_the_same_version(key, weight):
    weights = {1: 100 - weight, 2: weight}
    assert versions(weights, [key]) == versions(weights, [key])


@given(key=st.text(max_size=40), before=st.integers(1, 100), after=st.integers(1, 100))
def test_who_was_given_to_a_candidate_stays_with_it_while_its_weight_grows(key, before, after):
    assume(before <= after)
    if versions({1: 100 - before, 2: before}, [key])[key] == 2:
        assert versions({1: 100 - after, 2: after}, [key])[key] == 2


@given(
    key=st.text(max_size=40),
    weights=st.dictionaries(st.integers(1, 9), st.integers(0, 100), min_size=1, max_size=5),
)
def test_a_version_without_weight_answers_nobody(key, weights):
    if not any(weights.values()):
        with pytest.raises(NoLiveVersionError, match="m: no version"):
            choose(plan(a_route(weights)), key)
    else:
        assert weights[choose(plan(a_route(weights)), key).version] > 0


def test_two_models_split_the_same_keys_independently():
    both = sum(point_of("a", key) < 2**31 and point_of("b", key) < 2**31 for key in KEYS)
    assert abs(both / len(KEYS) - 0.25) < 0.035


def test_a_shadow_never_answers_and_the_heaviest_other_version_stands_in():
    laid_out = plan(a_route({1: 90, 2: 10, 3: 0}, shadows={3}))
    assert [share.version for share in laid_out.shadows] == [3]
    champion, candidate = laid_out.share_of(1), laid_out.share_of(2)
    assert champion is not None
    assert candidate is not None
    assert laid_out.stand_in(candidate) == champion
    assert plan(a_route({1: 100})).stand_in(champion) is None


def test_an_older_epoch_changes_nothing():
    table = RouteTable()
    table.follow("m", a_route({2: 100}, epoch=7))
    table.follow("m", a_route({1: 100}, epoch=6))
    assert [route.epoch for route in table.routes()] == [7]
    table.follow("m", None)
    assert table.get("m") is None
