"""A house whose deployer makes all runtimes, as processes of this machine."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from gyral.deployer.engine.holding import holder
from gyral.testkit.backends import Backends
from tests.services.deployer.house import LIVE, House, a_house, deadline_in

QUICK = {
    "DEPLOYER_BACKEND": "process",
    "DEPLOYER_RECONCILE_S": "0.2",
    "DEPLOYER_SCALE_OUT_S": "1",
    "DEPLOYER_SCALE_IN_S": "3",
    "DEPLOYER_LINGER_S": "1",
}


@dataclass
class Making(House):
    """Deployer and gateway; the runtimes are the deployer's affair."""

    def __post_init__(self) -> None:
        House.__post_init__(self)
        told = {**QUICK, "DEPLOYER_SOCKETS": str(self.folder / "s")}
        self.deployer = self._process("deployer", {**self.env, **told})

    def start(self) -> None:
        """Start both."""
        self.publish(self.issued)
        self.deployer.start()
        self.gateway.start(health=LIVE)

    def stop(self) -> None:
        """End what still runs, and the runtimes, which nobody else would."""
        for process in (self.gateway, self.deployer):
            process.stop()
        for lock in (self.folder / "deployer" / "runtimes").glob("groups/*/*/lock"):
            if (pid := holder(lock)) is not None:
                os.killpg(pid, signal.SIGKILL)

    def groups(self) -> dict[str, dict[str, Any]]:
        """Return every group as the deployer tells of it."""
        answer = httpx.get(
            f"{self.deployer.url}/v1/runtimes",
            headers={"authorization": f"Bearer {self.key}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return {each["name"]: each for each in answer.json()}

    def until(
        self, name: str, holds: Callable[[dict[str, Any]], bool], within_s: float = 60
    ) -> dict[str, Any]:
        """Return a group once this holds of it."""
        late = deadline_in(within_s)
        while not holds(found := self.groups().get(name, {})):
            assert not late(), f"{found}: {self.deployer.tail()}"
        return found

    def pid(self, group: str, number: int = 0) -> int | None:
        """Return the process of one runtime."""
        groups = self.folder / "deployer" / "runtimes" / "groups"
        return holder(groups / group / str(number) / "lock")

    def held(self, group: str, number: int = 0) -> set[str]:
        """Return what one runtime holds, by its own word."""
        folder = self.folder / "deployer" / "runtimes" / "groups" / group / str(number)
        answer = httpx.post(
            f"http://127.0.0.1:{(folder / 'port').read_text()}/v2/repository/index",
            headers={"authorization": f"Bearer {self.service_key}"},
            json={},
            timeout=30,
        )
        return {each["name"] for each in answer.json() if each["state"] == "READY"}

    def route(self, model: str) -> dict[str, Any]:
        """Return a model's route as the deployer knows it."""
        answer = httpx.get(
            f"{self.deployer.url}/v1/models/{model}/route",
            headers={"authorization": f"Bearer {self.key}"},
            timeout=30,
        )
        found: dict[str, Any] = json.loads(answer.text)
        return found


@contextmanager
def a_making_house(stack: Backends) -> Iterator[Making]:
    """Yield such a house over stores of its own, its processes running."""
    with a_house(stack, Making) as house:
        assert isinstance(house, Making)
        yield house


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began
