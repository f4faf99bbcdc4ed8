"""Whatever changes under load: no request fails, each answer is one version's, and logged."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from .conftest import ROWS, a_version, infer_body

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]
CLIENTS = 4
LIVE = "/v2/health/live"
"""It is not ready here: routes of other tests, whose runtimes are gone, are in Kafka too."""


@dataclass
class Client:
    """Asks over one kept-alive connection for as long as it may, and keeps what it got."""

    port: int
    path: str
    headers: dict[str, str]
    stop: threading.Event
    answers: list[tuple[str, int, list[float]]] = field(default_factory=list)
    """Request id, version and probabilities."""
    failures: list[str] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        body = json.dumps(infer_body(ROWS))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.stop.is_set():
            try:
                connection.request("POST", self.path, body, self.headers)
                answer = connection.getresponse()
                said = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            if answer.status != 200:
                self.failures.append(f"{answer.status}: {said}")
                continue
            [found] = [
                each["data"] for each in said["outputs"] if each["name"] == "probability"
            ]
            id_ = answer.headers["x-gyral-request-id"]
            self.answers.append((id_, int(said["model_version"]), found))
            self.asked.set()
        connection.close()


@dataclass
class Load:
    """Clients that ask all the time."""

    clients: list[Client]

    def goes_on(self) -> None:
        """Return once each client has had another answer."""
        for client in self.clients:
            client.asked.clear()
        for client in self.clients:
            assert client.asked.wait(30), client.failures

    @property
    def failures(self) -> list[str]:
        return [failure for client in self.clients for failure in client.failures]

    @property
    def answers(self) -> dict[str, tuple[int, list[float]]]:
        every = [answer for client in self.clients for answer in client.answers]
        found = {id_: (version, probabilities) for id_, version, probabilities in every}
        assert len(found) == len(every)
        return found


@contextmanager
def loaded(served, gateway) -> Iterator[Load]:
    stop, path = threading.Event(), f"/v2/models/{served.model}/infer"
    load = Load([Client(gateway.port, path, served.headers, stop) for _ in range(CLIENTS)])
    threads = [threading.Thread(target=client.run) for client in load.clients]
    for thread in threads:
        thread.start()
    try:
        load.goes_on()
        yield load
        load.goes_on()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@pytest.fixture
def inherited(served):
    """A second gateway, on a socket that outlives it."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        gateway = served.another_gateway("inherited", served.stack.kafka_brokers)
        gateway.listener, gateway.port = listener, listener.getsockname()[1]
        try:
            gateway.start(health=LIVE)
            yield gateway
        finally:
            gateway.stop()


@pytest.fixture
def second(served):
    """A second runtime that holds the same versions."""
    runtime = served.another_runtime("r2")
    try:
        runtime.start()
        served.load(1, 2, 3, runtime=runtime)
        served.replicas = (f"unix:{served.folder / 'r2.sock'}",)
        yield runtime
    finally:
        served.replicas = ()
        served.follow(v1=100)
        runtime.stop()


def test_nothing_that_is_changed_under_load_is_noticed(served, inherited, second):
    with loaded(served, inherited) as load:
        served.follow(v1=100)  # from one runtime to two
        load.goes_on()
        for weights in ({"v1": 100, "v2": "shadow"}, {"v1": 70, "v2": 30}, {"v2": 100}):
            served.follow(**weights)
            load.goes_on()
        served.follow(v1=100, v2=0)  # rolled back
        for runtime in (second, served.runtime):
            load.goes_on()
            runtime.kill()
            load.goes_on()
            runtime.start()
        load.goes_on()
        assert inherited.stop() == 0
        inherited.start(health=LIVE)
        load.goes_on()
        served.replicas = ()
        served.follow(v1=100)  # from two runtimes to one
    assert load.failures == []
    assert {version for version, _ in load.answers.values()} == {1, 2}
    expected = {
        version: pytest.approx([a_version(version).probability(row) for row in ROWS], abs=1e-6)
        for version in (1, 2)
    }
    for version, found in load.answers.values():
        assert found == expected[version]
    assert inherited.stop() == 0
    inherited.start(health=LIVE)
    logged = {
        one.request_id: one
        for one in served.predictions("2026-03-03T00:00:00Z")
        if one.role == "live"
    }
    for id_, (version, found) in load.answers.items():
        assert (logged[id_].version, list(logged[id_].probabilities)) == (version, found)
