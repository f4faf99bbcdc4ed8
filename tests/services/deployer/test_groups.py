"""Groups of runtimes, made by a real deployer under real load: nobody notices."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import onnx
import pytest

from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.versions import ModelDeclared
from tests.docs import pages
from tests.services.deployer.house import GOLDEN, Served, a_version, deadline_in
from tests.services.deployer.making import a_making_house, seconds
from tests.services.deployer.test_planted import works_ten_times_longer

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
TO_NONE = {"runtime": "own", "replicas": {"min": 0, "max": 1}, "idle": "2s"}
QUEUE_S = 0.004


@pytest.fixture(scope="module")
def house(stack):
    with a_making_house(stack) as made:
        yield made


def slow(model):
    """A version that takes some ten milliseconds for a batch."""
    sound = a_version(0.1)
    made = onnx.load_model_from_string(sound.onnx())
    works_ten_times_longer(made)
    return sound.files(GOLDEN, model=model.name, onnx=made.SerializeToString())


def right(answer):
    """Return whether it is the one version's answer to the one row."""
    [found] = [each["data"] for each in answer["outputs"] if each["name"] == "probability"]
    expected = a_version(0.1).probability({"x": 0.5})
    return answer["model_version"] == "1" and found == pytest.approx([expected], abs=1e-6)


@dataclass
class Load:
    """Clients that ask all the time; as many as are wanted just now."""

    model: Served
    wanted: int
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, number):
        url, key = self.model.house.gateway.url, self.model.house.key
        tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}
        with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
            while not self.stop.is_set():
                if number >= self.wanted:
                    self.stop.wait(0.05)
                    continue
                answer = client.post(
                    f"{url}/v2/models/{self.model.name}/infer", json={"inputs": [tensor]}
                )
                if answer.status_code != 200 or not right(answer.json()):
                    self.failures.append(f"{answer.status_code}: {answer.text}")
                self.answered += 1

    def __enter__(self):
        self.threads = [
            threading.Thread(target=self.ask, args=(number,)) for number in range(self.wanted)
        ]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)


def test_runtimes_come_and_go_under_constant_load_and_nobody_notices(house):
    serving = {"runtime": "own", "replicas": {"min": 1, "max": 2}, "queue": QUEUE_S}
    model = house.model(serving=serving)
    model.approve(slow(model))
    model.reach(1, "completed")
    model.until_answered_by(1)
    with Load(model, wanted=12) as load:
        grown = house.until(model.name, lambda group: group["ready"] == 2)
        assert grown["why"].startswith("queue: expected at most 0.004 s and no refusals")
        route = both_named(house, model)
        load.wanted = 1
        shrunk = house.until(model.name, lambda group: group["wanted"] == 1)
        assert shrunk["why"].startswith("calm: ")
        left = house.until(model.name, lambda group: len(group["members"]) == 1)
        after = house.route(model.name)
        assert (after["runtime"], after["replicas"]) == (left["members"][0]["address"], [])
    assert load.failures == []
    assert load.answered > 100
    assert after["epoch"] > route["epoch"]


def both_named(house, model):
    late = deadline_in(60)
    while not (route := house.route(model.name))["replicas"]:
        assert not late(), house.deployer.tail()
    return route


def test_a_model_of_its_own_is_held_there_alone_and_moves_as_it_is_declared(house):
    own = house.model(serving={"runtime": "own"})
    other = house.model()
    for model in (own, other):
        model.live()
    assert house.held(own.name) == {f"{own.name}@1"}
    assert f"{own.name}@1" not in house.held("shared")
    assert f"{other.name}@1" in house.held("shared")
    status, said = house.type("get", "runtimes", "-o", "json")
    assert status == 0, said
    assert {each["name"] for each in json.loads(said)} >= {own.name, "shared"}
    for command in pages.commands(pages.ROOT / "docs" / "runtimes.md"):
        [[_, *words]] = command.stages
        status, said = house.type(*words)
        assert (status, own.name in said, "shared" in said) == (0, True, True), said
    status, said = house.type("get", "runtimes", own.name)
    assert (status, own.name in said, "shared" in said) == (0, True, False), said
    status, said = house.type("get", "runtimes", "nobody")
    assert status == 1
    assert "expected one of" in said
    with Load(own, wanted=2) as load:
        declare(house, own, {}, generation=2)
        house.until(own.name, lambda group: group == {})
        assert f"{own.name}@1" in house.held("shared")
        declare(house, own, {"runtime": "own"}, generation=3)
        house.until(own.name, lambda group: group.get("ready") == 1)
        late = deadline_in(60)
        while house.route(own.name)["runtime"] == house.route(other.name)["runtime"]:
            assert not late(), house.deployer.tail()
    assert load.failures == []
    assert load.answered > 10


def declare(house, model, serving, *, generation):
    plain = model.spec.model_dump(mode="json")
    plain["spec"]["serving"] = serving
    spec = ModelSpec.model_validate(plain)
    house.publish(ModelDeclared(name=model.name, generation=generation, spec=spec))


def asleep(house, model):
    """Return once the model has no runtime, and its route says so."""
    house.until(model.name, lambda group: group["wanted"] == 0 and not group["members"])
    assert house.route(model.name)["dormant"]
    late = deadline_in(30)
    while house.pid(model.name) is not None:
        assert not late(), house.deployer.tail()


def test_an_idle_model_has_no_runtime_and_its_first_requests_wait_for_one(house):
    model = house.model(serving=TO_NONE)
    model.live()
    asleep(house, model)
    cold_s = seconds(lambda: answered(model))
    warm_s = seconds(lambda: answered(model))
    assert warm_s < cold_s < 10
    asleep(house, model)
    with ThreadPoolExecutor(20) as many:
        assert set(many.map(lambda _: answered(model), range(20))) == {1}


def test_to_ask_whether_a_sleeping_model_is_ready_wakes_it(house):
    model = house.model(serving=TO_NONE)
    model.live()
    asleep(house, model)
    late = deadline_in(30)
    said = [is_ready(model)]
    while not is_ready(model):
        assert not late(), house.deployer.tail()
    assert said == [False]
    assert answered(model) == 1


def is_ready(model):
    answer = httpx.get(
        f"{model.house.gateway.url}/v2/models/{model.name}/ready",
        headers={"authorization": f"Bearer {model.house.key}"},
        timeout=30,
    )
    return answer.json()["ready"]


def answered(model):
    answer = model.ask()
    assert answer.status_code == 200, answer.text
    return int(answer.json()["model_version"])


def test_whoever_is_killed_a_sleeping_model_is_woken(house):
    model = house.model(serving=TO_NONE)
    model.live()
    asleep(house, model)
    house.deployer.kill()
    house.deployer.start()
    assert answered(model) == 1
    pid = house.pid(model.name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert answered(model) == 1
    asleep(house, model)
    house.restart_gateway(kafka=True)
    assert model.answered_by() == 1


def test_runtimes_outlive_their_deployer(house):
    model = house.model(serving={"runtime": "own"})
    model.live()
    pid = house.pid(model.name)
    house.deployer.kill()
    assert answered(model) == 1
    house.deployer.start()
    house.until(model.name, lambda group: group.get("ready") == 1)
    assert house.pid(model.name) == pid
    assert house.deployer.stop() == 0, house.deployer.tail()
    assert answered(model) == 1
    house.deployer.start()
