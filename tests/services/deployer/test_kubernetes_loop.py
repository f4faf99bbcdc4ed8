"""Deployer and gateway as processes, runtimes as pods: from approved versions to answers."""

import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.services.deployer.cluster import Cluster, a_cluster
from tests.services.deployer.cluster.objects import POD, StatusError
from tests.services.deployer.house import House, a_house, deadline_in
from tests.services.deployer.making import QUICK, Making
from tests.services.deployer.pods import NAMESPACE, RULES, volumes

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


@dataclass
class InCluster(Making):
    """A house whose runtimes are the cluster's affair."""

    undo: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        House.__post_init__(self)
        given = volumes(**{name: self.env[name] for name in ("S3_ENDPOINT", "S3_BUCKET")})
        given.secrets["gyral-s3"] = {
            name: self.env[name] for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY")
        }
        given.secrets["gyral-keys"] = {"service.key": self.service_key}
        self.volumes = given
        # A pod that is new starts and loads before it answers; nothing is kept for it.
        self.gateway.env = {**self.gateway.env, "GATEWAY_REQUEST_TIMEOUT_S": "110"}

    def start(self) -> None:
        """Start the cluster, then both."""
        folder = Path(self.folder, "cluster")
        folder.mkdir()
        self.cluster: Cluster = self.undo.enter_context(
            a_cluster(folder, namespace=NAMESPACE, rules=RULES, volumes=self.volumes)
        )
        told = {
            **QUICK,
            "DEPLOYER_BACKEND": "kubernetes",
            "KUBERNETES_IMAGE": "gyral:0.1.0",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.cluster.port),
            "KUBERNETES_CREDENTIALS": str(self.cluster.credentials),
        }
        self.deployer = self._process("deployer", {**self.env, **told})
        Making.start(self)

    def stop(self) -> None:
        """End what still runs, and the cluster with its pods."""
        for process in (self.gateway, self.deployer):
            process.stop()
        self.undo.close()

    def pods(self, group: str) -> list[str]:
        """Return the names of a group's pods that are not to end."""
        return [
            name
            for (kind, _, name), each in list(self.cluster.objects.kept.items())
            if kind is POD
            and each["metadata"]["annotations"]["gyral.dev/group"] == group
            and "deletionTimestamp" not in each["metadata"]
        ]


@pytest.fixture(scope="module")
def house(stack):
    with a_house(stack, InCluster) as made:
        yield made


@pytest.fixture
def model(house):
    """A model that answers from a pod of its own."""
    made = house.model(serving={"runtime": "own", "replicas": {"min": 1, "max": 3}})
    made.live()
    return made


def named(house, model, count):
    """Return once the model's route names so many runtimes, and all of them are there."""
    late = deadline_in(100)
    while True:
        route, group = house.route(model.name), house.groups()[model.name]
        addresses = {route["runtime"], *route["replicas"]}
        if len(addresses) == count and addresses == {
            each["address"] for each in group["members"] if each["ready"]
        }:
            return addresses
        assert not late(), f"{route} {group}: {house.deployer.tail()}"


def asked(model):
    """Ask, as patiently as a busy machine starts pods; return what did not go well."""
    answer = httpx.post(
        f"{model.house.gateway.url}/v2/models/{model.name}/infer",
        json={"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]},
        headers={"authorization": f"Bearer {model.house.key}"},
        timeout=120,
    )
    return None if answer.status_code == 200 else answer.text


class Asking:
    """Somebody who asks all the time."""

    def __init__(self, model):
        self.model, self.failures, self.answered = model, [], 0
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.enough.is_set():
            try:
                failure = asked(self.model)
            except httpx.HTTPError as error:
                failure = repr(error)
            self.failures += [failure] if failure else []
            self.answered += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        self.thread.join(120)


def test_a_version_answers_from_a_pod_over_tcp(house, model):
    [address] = named(house, model, 1)
    [pod] = house.pods(model.name)
    container = house.cluster.kubelet.containers[pod]
    assert address == f"tcp:{container.ip}:8109"
    assert asked(model) is None


def test_a_killed_process_and_a_lost_pod_fail_no_request(house, model):
    named(house, model, 1)
    [pod] = house.pods(model.name)
    with Asking(model) as asking:
        house.cluster.do(house.cluster.kubelet.kill, pod)
        late = deadline_in(100)
        while house.cluster.kubelet.containers[pod].restarts < 1:
            assert not late()
        before = named(house, model, 1)
        house.cluster.do(house.cluster.lose, pod)
        late = deadline_in(100)
        while named(house, model, 1) == before:
            assert not late(), house.deployer.tail()
        model.until_answered_by(1)
    assert asking.failures == []
    assert asking.answered > 0


def test_routes_follow_what_the_autoscaler_does_and_nobody_notices(house, model):
    one = named(house, model, 1)
    scale = house.cluster.kubelet.autoscale
    [workload] = {
        name for (_, _, name) in list(house.cluster.objects.kept) if name.endswith(model.name)
    }
    with Asking(model) as asking:
        house.cluster.do(scale, NAMESPACE, workload, 2)
        assert named(house, model, 2) > one
        house.cluster.do(scale, NAMESPACE, workload, 1)
        assert named(house, model, 1) == one
    assert asking.failures == []
    assert house.deployer.pid


def test_an_idle_model_has_no_pod_and_its_first_request_waits_for_one(house):
    to_none = {"runtime": "own", "replicas": {"min": 0, "max": 2}, "idle": "2s"}
    model = house.model(serving=to_none)
    model.live()
    house.until(model.name, lambda group: group["wanted"] == 0 and not group["members"])
    late = deadline_in(30)
    while not house.route(model.name)["dormant"] or house.pods(model.name):
        assert not late(), house.deployer.tail()
    assert asked(model) is None
    assert len(house.pods(model.name)) == 1


def test_an_api_server_that_is_away_disturbs_nobody_who_asks(house, model):
    named(house, model, 1)
    pid = house.deployer.pid
    before = len(house.cluster.api.requests)
    house.cluster.api.fail = StatusError(503, "ServiceUnavailable", "away")
    late = deadline_in(100)
    while len(house.cluster.api.requests) < before + 10:
        assert not late()
        assert asked(model) is None
    house.cluster.api.fail = None
    other = house.model(serving={"runtime": "own"})
    other.live()
    assert house.deployer.pid == pid
