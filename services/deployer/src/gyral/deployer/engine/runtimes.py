"""The runtimes' control routes, as the deployer asks them."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

import httpx
import msgspec

from gyral.contracts.training import Artifacts
from gyral.kit.telemetry import get_log

log = get_log()


class RefusedByRuntimeError(ValueError):
    """The runtime looked at the version and will not serve it; trying again changes nothing."""


class NotNowError(ConnectionError):
    """The runtime has no room, or its store is away: nothing is said of the version."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime's control routes, as an operator sees them."""

    client: httpx.AsyncClient
    """With the service key."""
    base: str = ""
    """The runtime's control address, where the client does not bring it."""

    async def load(self, name: str, artifacts: Artifacts) -> None:
        """Have a version fetched, checked, warmed up and held; again is harmless.

        Raises:
            RefusedByRuntimeError: the version failed a check; the message says which.
            NotNowError: it is to be tried again later; the message says what for.
            OSError: the runtime is away.
        """
        # Without `code`, as ONNX has none: older runtimes read no more than they know.
        body = artifacts.model_dump(
            mode="json", include={"onnx", "manifest", "golden", "code"}, exclude_none=True
        )
        await self._post(f"/v2/repository/models/{name}/load", body)

    async def unload(self, name: str) -> None:
        """Have a version dropped; one that is not held is no error."""
        await self._post(f"/v2/repository/models/{name}/unload", {})

    async def held(self) -> dict[str, str]:
        """Return the digest of every version that is ready, by slot."""
        answer = await self._post("/v2/repository/index", {})
        return {row["name"]: row["sha256"] for row in answer if row["state"] == "READY"}

    async def _post(self, path: str, body: dict[str, object]) -> list[dict[str, str]]:
        try:
            answer = await self.client.post(f"{self.base}{path}", json=body)
        except httpx.TransportError as error:
            raise ConnectionError(
                f"runtime: expected an answer to {path}; found {type(error).__name__}"
            ) from error
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            log.warning("runtime.waits", path=path, reason=answer.text[:400])
            raise NotNowError(f"runtime: expected 200 to {path}; found {answer.text[:400]}")
        if answer.is_server_error or answer.status_code in (401, 403, 408, 429):
            raise ConnectionError(
                f"runtime: expected 200 to {path}; found {answer.status_code}"
            )
        if answer.is_client_error:
            raise RefusedByRuntimeError(answer.text[:400])
        found: list[dict[str, str]] = (
            msgspec.json.decode(answer.content) if answer.content else []
        )
        return found


@dataclass(frozen=True, slots=True)
class Runtimes:
    """Every runtime of this deployer; all are to hold the same versions.

    One that is away is passed over: it is brought into step when it is back.
    """

    each: tuple[Runtime, ...]

    async def load(self, name: str, artifacts: Artifacts) -> None:
        """Have every runtime that is there hold a version; where none is, raise as one does.

        Raises:
            RefusedByRuntimeError: one of them refuses it.
        """
        said = await asyncio.gather(
            *(runtime.load(name, artifacts) for runtime in self.each), return_exceptions=True
        )
        away = [one for one in said if isinstance(one, ConnectionError)]
        for one in said:
            if isinstance(one, BaseException) and one not in away:
                raise one
        if len(away) == len(said):
            raise away[0]
