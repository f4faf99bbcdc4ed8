"""HTTP to the services: typed answers, and patience with one that is just restarting."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from gyral.client.addresses import Addresses
from gyral.client.errors import ServiceError, UnreachableError
from gyral.client.wire import Pool, Response, WireError

T = TypeVar("T")
Params = Mapping[str, str | int | float]
Row = dict[str, object]
PAGE = 1000
"""Most rows a service answers with at once."""
POLL_S = 20.0
"""Longest time a service lets a question wait for its answer."""
_RETRIED = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_LONGEST_PAUSE_S = 2.0
"""Between two attempts, where the service asks for nothing."""
_LONGEST_ASKED_S = 60.0
"""What a Retry-After may ask for."""
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Api:
    """One service."""

    service: str
    http: Pool
    patience_s: float = 120.0
    """How long a service may be away before we give up."""
    retried: Counter[str] = field(default_factory=Counter)
    """How many attempts were made again, by the status or the error they met."""

    async def get(self, path: str, answer: type[T], params: Params | None = None) -> T:
        """Return what the service says at `path`.

        Raises:
            ServiceError: it says no, or what is no answer of Gyral.
            UnreachableError: it stays away.
        """
        response = await self._call("GET", path, params=params or {})
        return self._read(response, answer)

    async def read(self, path: str, params: Params | None = None) -> bytes:
        """Return the bytes a service has at `path`; raises as `get` does."""
        return (await self._call("GET", path, params=params or {})).body

    async def find(self, path: str, answer: type[T], params: Params | None = None) -> T | None:
        """Return what the service says at `path`, or None when it knows no such thing."""
        try:
            return await self.get(path, answer, params)
        except ServiceError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def listed(
        self, path: str, by: str, limit: int | None = None, params: Params | None = None
    ) -> list[Row]:
        """Return a listing's rows, page after page, all or the first `limit`.

        Args:
            path: of the listing.
            by: the field of a page's last row after which the next page begins.
            limit: most rows.
            params: what else to ask with.
        """
        found: list[Row] = []
        after: Params = {}
        while limit is None or len(found) < limit:
            wanted = PAGE if limit is None else min(PAGE, limit - len(found))
            asked = {**(params or {}), **after, "limit": wanted}
            page = await self.get(path, list[Row], asked)
            found += page
            if len(page) < wanted:
                break
            after = {"after": str(page[-1][by])}
        return found[:limit]

    async def post(
        self,
        path: str,
        body: bytes,
        answer: type[T],
        *,
        content_type: str = JSON,
        idempotency_key: str | None = None,
    ) -> T:
        """Send a body and return the answer; raises as `get` does.

        Sent again until answered: an idempotency key makes that one effect.
        """
        headers = {"content-type": content_type}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        response = await self._call("POST", path, content=body, headers=headers)
        return self._read(response, answer)

    async def delete(self, path: str) -> None:
        """Have something removed; raises as `get` does."""
        await self._call("DELETE", path)

    def _read(self, response: Response, answer: type[T]) -> T:
        try:
            return msgspec.json.decode(response.body, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            said = response.body[:80].decode("utf-8", "replace")
            raise ServiceError(
                self.service,
                response.status,
                "unreadable",
                f"expected an answer of Gyral ({error}); found {said!r}: see whether "
                f"{self.http.url} is this service's address",
            ) from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.patience_s
        pause_s = 0.05
        while True:
            try:
                response = await self.http.request(
                    method, path, params=params, content=content, headers=headers
                )
            except WireError as error:
                if clock() > deadline:
                    waited = f" for {self.patience_s:.0f} s" if self.patience_s else ""
                    raise UnreachableError(
                        f"{self.service} at {self.http.url}: no answer{waited}"
                        f" ({type(error.__cause__ or error).__name__}): see `gyral status`, or"
                        " start it with `gyral up`"
                    ) from error
                self.retried[type(error.__cause__ or error).__name__] += 1
            else:
                if response.is_success:
                    return response
                again_s = _again_s(response)
                if again_s is None or clock() > deadline:
                    raise _refused(self.service, response)
                self.retried[str(response.status)] += 1
                pause_s = max(pause_s, again_s)
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


RESTART_S = 20.0
"""What a person who typed a command may wait for a service that is just restarting."""
LONG_WORK_S = 120.0
"""What work over hours bears with."""


@dataclass(slots=True)
class Platform:
    """All services behind one key; use as an async context manager."""

    addresses: Addresses
    patience_s: float = RESTART_S
    """How long a service may give no answer."""
    connections: int = 16
    _apis: dict[str, Api] = field(default_factory=dict)

    def __getitem__(self, service: str) -> Api:
        if service not in self._apis:
            http = Pool(
                self.addresses.url(service),
                {"authorization": f"Bearer {self.addresses.key}"},
                size=self.connections,
                timeout_s=POLL_S + 40,
            )
            self._apis[service] = Api(service, http, self.patience_s)
        return self._apis[service]

    def retried(self) -> Mapping[str, Mapping[str, int]]:
        """Return how many attempts each service did not answer, by what they met instead."""
        return {name: dict(api.retried) for name, api in self._apis.items() if api.retried}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for api in self._apis.values():
            await api.http.aclose()


def _again_s(response: Response) -> float | None:
    """Return when to send the same again, or None when that would not help."""
    after = response.headers.get("retry-after")
    busy = response.status == HTTPStatus.CONFLICT and after is not None
    if response.status not in _RETRIED and not busy:
        return None
    return min(_LONGEST_ASKED_S, float(after)) if after and after.isdigit() else 0.0


class _Detail(msgspec.Struct):
    code: str
    message: str


class _Error(msgspec.Struct):
    error: _Detail | str


def _refused(service: str, response: Response) -> ServiceError:
    status = response.status
    try:
        said = msgspec.json.decode(response.body, type=_Error).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = response.body[:200].decode("utf-8", "replace") or "no reason given"
    if isinstance(said, str):
        known = {each.value: each.phrase for each in HTTPStatus}
        return ServiceError(service, status, known.get(status, "without a name"), said)
    hint = ""
    if status == HTTPStatus.UNAUTHORIZED:
        hint = ": set GYRAL_API_KEY or GYRAL_HOME to those of this platform"
    return ServiceError(service, status, said.code, said.message + hint)
