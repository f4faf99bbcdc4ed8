"""The runbook of rollbacks, typed as it stands against processes that serve a version."""

import shlex

import pytest

from tests.docs import pages
from tests.services.deployer.house import GOLDEN, a_house, a_version

pytestmark = pytest.mark.live
PAGE = pages.ROOT / "docs" / "runbooks" / "rollback.md"


@pytest.fixture(scope="module")
def house(stack):
    with a_house(stack) as made:
        yield made


@pytest.fixture
def model(house):
    """A model whose second version answers alone, the first kept warm."""
    made = house.model(shadow=5, canary=[50, 100], per_step=5)
    made.completed()
    return made


def typed(house, model, *words):
    """Type the page's commands that hold all these words, about this model."""
    found = [
        shlex.split(command.text)[1:]
        for command in pages.commands(PAGE)
        if all(word in command.text for word in words)
    ]
    assert found
    for command in found:
        named = [model.name if word == "churn" else word for word in command]
        status, said = house.type(*named)
        assert status == 0, said


def test_what_the_runbook_says_holds_and_takes_back_a_version(house, model):
    typed(house, model, "rollout show")
    assert (model.show(1)["answers"], model.show(2)["answers"]) == ("warm", "100%")
    typed(house, model, "rollback churn --reason")
    model.until_answered_by(1)
    assert model.show(1)["answers"] == "100%"
    model.approve(a_version(0.3).files(GOLDEN, model=model.name), against=1)
    model.reach(3, "shadow")
    typed(house, model, "pause")
    typed(house, model, "resume")


def test_what_the_runbook_says_pins_the_gateways(house, model):
    house.deployer.kill()
    house.restart_gateway(kafka=False)
    typed(house, model, "--emergency")
    assert model.answered_by() == 1
    house.restart_gateway(kafka=True)
    house.deployer.start()
    model.reach(2, "rolled_back")
