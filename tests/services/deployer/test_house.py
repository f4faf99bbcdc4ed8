"""Rollouts by real processes: taken back by hand, by emergency, and by what was planted."""

import pytest

from tests.services.deployer.house import GOLDEN, a_house, a_version

pytestmark = pytest.mark.live
HOSTILE = "\x1b[2J'; DROP TABLE route; --"


QUICK = {"shadow": 5, "canary": [50, 100], "per_step": 5}


@pytest.fixture(scope="module")
def house(stack):
    with a_house(stack) as made:
        yield made


@pytest.fixture
def model(house):
    """A model whose second version answers alone, the first kept warm."""
    made = house.model(**QUICK)
    made.completed()
    return made


def test_a_completed_version_is_rolled_back_by_one_command(house, model):
    status, said = house.type("rollout", "rollback", model.name, "--reason", HOSTILE)
    assert status == 0, said
    assert "\x1b" not in said
    model.until_answered_by(1)
    shown = model.show(2)
    assert (shown["stage"], shown["actor"], shown["reason"]) == ("rolled_back", "ann", HOSTILE)
    assert model.ask(version=2).status_code == 404


def test_an_emergency_needs_neither_kafka_nor_the_deployer_and_is_adopted_once_they_are_back(
    house, model
):
    house.deployer.kill()
    house.restart_gateway(kafka=False)
    assert model.answered_by() == 2
    order = ("rollout", "rollback", model.name, "--reason", HOSTILE, "--emergency")
    status, said = house.type(*order)
    assert status == 0, said
    assert "pinned" in said
    assert "\x1b" not in said
    assert model.answered_by() == 1
    house.restart_gateway(kafka=False)
    assert model.answered_by() == 1
    house.restart_gateway(kafka=True)
    assert model.answered_by() == 1
    house.deployer.start()
    shown = model.reach(2, "rolled_back")
    assert (shown["actor"], shown["reason"]) == ("ann", HOSTILE)
    assert model.answered_by() == 1
    model.approve(a_version(0.3).files(GOLDEN, model=model.name), against=1)
    model.reach(3, "completed", asking=0.5)
    model.until_answered_by(3)
    assert list((house.folder / "gateway" / "pins").glob("*.json")) == []


def test_an_emergency_with_nothing_to_return_to_says_so_at_every_gateway(house):
    model = house.model()
    model.live()
    status, said = house.type(
        "rollout", "rollback", model.name, "--reason", "why", "--emergency"
    )
    assert status == 1
    assert "expected a route with a previous champion" in said


def test_a_version_that_needs_its_own_runtime_is_taken_back_where_none_can_be_made(house):
    model = house.model(serving={"runtime": "own"})
    model.approve(a_version(0.1).files(GOLDEN, model=model.name))
    shown = model.reach(1, "aborted")
    assert shown["reason"].startswith(
        "warm-up: serving.runtime: expected a deployer that makes"
    )
    assert "DEPLOYER_BACKEND" in shown["reason"]
