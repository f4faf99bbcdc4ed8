"""Routes: the shares of live versions are always all of the requests."""

from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.deployment import Datatype, Input
from gyral.contracts.specs.model import Rollout
from gyral.deployer.domain.rollouts import Stage, State
from gyral.deployer.domain.routes import Serving, returned, shares

RULES = Rollout()
INPUTS = (Input(name="pages", datatype=Datatype.FP64),)


def serving(version):
    return Serving(version, "a" * 64, INPUTS, f"churn@{version}")


FIRST = shares((), serving(1), State(Stage.COMPLETED), RULES)
states = st.one_of(
    st.sampled_from([State(Stage.SHADOW), State(Stage.COMPLETED), State(Stage.ABORTED)]),
    st.builds(State, st.just(Stage.CANARY), st.integers(0, 1)),
)


def test_a_first_version_gets_everything():
    [share] = FIRST
    assert (share.version, share.weight, share.shadow) == (1, 100, False)


def test_a_shadow_answers_nobody_and_an_aborted_version_is_gone():
    champion, candidate = shares(FIRST, serving(2), State(Stage.SHADOW), RULES)
    assert (champion.weight, candidate.weight, candidate.shadow) == (100, 0, True)
    [only] = shares((champion, candidate), serving(2), State(Stage.ABORTED), RULES)
    assert (only.version, only.weight) == (1, 100)


def test_a_completed_rollout_keeps_the_previous_version_warm():
    before, after = shares(FIRST, serving(2), State(Stage.COMPLETED), RULES)
    assert (before.version, before.weight) == (1, 0)
    assert (after.version, after.weight) == (2, 100)
    third = shares((before, after), serving(3), State(Stage.SHADOW), RULES)
    assert [share.version for share in third] == [2, 3]


def test_a_version_that_is_taken_out_leaves_all_to_the_one_kept_warm_beside_it():
    completed = shares(FIRST, serving(2), State(Stage.COMPLETED), RULES)
    back = returned(completed, 2)
    assert back is not None
    assert (back.version, back.weight) == (1, 100)
    assert returned(FIRST, 1) is None
    shadowed = shares(FIRST, serving(2), State(Stage.SHADOW), RULES)
    assert returned(shadowed, 1) is None


@given(st.lists(states, max_size=12))
def test_live_weights_always_add_up_to_all(history):
    route = FIRST
    for state in history:
        route = shares(route, serving(2), state, RULES)
        assert sum(share.weight for share in route if not share.shadow) == 100
