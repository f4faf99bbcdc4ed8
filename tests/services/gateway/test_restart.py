"""A gateway is replaced under load: nobody is refused, and every answer is in the log once."""

import http.client
import json
import socket
import threading
from dataclasses import dataclass, field

import pytest

from .conftest import ROWS, a_version, infer_body

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
CLIENTS = 4


@dataclass
class Client:
    """Asks over one kept-alive connection for as long as it may, then says what it got."""

    port: int
    path: str
    headers: dict[str, str]
    stop: threading.Event
    answers: list[tuple[str, list[float]]] = field(default_factory=list)
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
            [probabilities] = [
                each["data"] for each in said["outputs"] if each["name"] == "probability"
            ]
            self.answers.append((answer.headers["x-gyral-request-id"], probabilities))
            self.asked.set()
        connection.close()


@pytest.fixture
def inherited(served):
    """A second gateway, on a socket that outlives it."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        gateway = served.another_gateway("inherited", served.stack.kafka_brokers)
        gateway.listener, gateway.port = listener, listener.getsockname()[1]
        gateway.start()
        yield gateway
        gateway.stop()


def test_a_restart_under_load_fails_no_request_and_loses_no_prediction(served, inherited):
    stop = threading.Event()
    clients = [
        Client(inherited.port, f"/v2/models/{served.model}/infer", served.headers, stop)
        for _ in range(CLIENTS)
    ]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for _ in range(2):
        for client in clients:
            assert client.asked.wait(30)
        assert inherited.stop() == 0
        inherited.start()
        for client in clients:
            client.asked.clear()
    for client in clients:
        assert client.asked.wait(30)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert [failure for client in clients for failure in client.failures] == []
    expected = pytest.approx([a_version(1).probability(row) for row in ROWS], abs=1e-6)
    answered = {id_: found for client in clients for id_, found in client.answers}
    assert len(answered) == sum(len(client.answers) for client in clients)
    for found in answered.values():
        assert found == expected
    assert inherited.stop() == 0
    inherited.start()
    logged = {one.request_id: one for one in served.predictions("2026-03-03T00:00:00Z")}
    for id_, found in answered.items():
        assert list(logged[id_].probabilities) == found
