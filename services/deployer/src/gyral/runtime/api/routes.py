"""Open Inference's repository extension over HTTP, for whoever holds the service key."""

import hashlib
import hmac
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict

from gyral.contracts.access import Scope
from gyral.contracts.names import BlobRef
from gyral.kit.access import AccessDenied, Caller, KeyRing
from gyral.kit.http import read_model, scope
from gyral.kit.refusals import Refusal
from gyral.runtime.api.repository import Repository
from gyral.runtime.domain import Files, FullError, RefusedVersionError

Slot = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,63}@[0-9]{1,9}$")]
Operator = Annotated[Caller, scope(Scope.OPERATE)]


class LoadRequest(BaseModel):
    """Where a version's files lie, and their digests."""

    model_config = ConfigDict(extra="forbid")

    onnx: BlobRef
    """The model: one ONNX file; with `code`, weights."""
    manifest: BlobRef
    golden: BlobRef
    code: BlobRef | None = None
    """Sources of the network that torch builds; None: the version is ONNX."""


class ServiceKey(KeyRing):
    """One key, known from a file: the runtime works while Kafka is away."""

    def __init__(self, key: str) -> None:  # no projection: nothing to subscribe to
        self._digest = hashlib.sha256(key.encode()).digest()

    def check(self, authorization: str | bytes | None, scope: Scope) -> Caller:  # noqa: ARG002
        """Return the holder of the service key, who may do everything here."""
        raw = authorization.encode() if isinstance(authorization, str) else authorization or b""
        kind, _, token = raw.partition(b" ")
        given = hashlib.sha256(token).digest()
        if kind.lower() != b"bearer" or not hmac.compare_digest(given, self._digest):
            raise AccessDenied(
                401, "expected `Authorization: Bearer <service key>`; found none"
            )
        return Caller("service", "service")


def create_router(repository: Repository) -> APIRouter:
    """Return the control routes over a repository."""
    router = APIRouter(prefix="/v2")

    @router.post("/repository/models/{slot}/load")
    async def load(slot: Slot, request: Request, _caller: Operator) -> list[dict[str, str]]:
        """Fetch, check, try out and hold a version."""
        wanted = await read_model(request, LoadRequest, max_bytes=1 << 16)
        try:
            await repository.load(
                slot, Files(wanted.onnx, wanted.manifest, wanted.golden, wanted.code)
            )
        except RefusedVersionError as error:
            raise Refusal(422, "version_refused", str(error)) from error
        except FullError as error:
            raise Refusal(503, "full", str(error), retry_after_s=5) from error
        except OSError as error:
            raise Refusal(503, "store_away", str(error)[:300], retry_after_s=1) from error
        return _index(repository)

    @router.post("/repository/models/{slot}/unload")
    async def unload(slot: Slot, _caller: Operator) -> list[dict[str, str]]:
        """Drop a version."""
        await repository.unload(slot)
        return _index(repository)

    @router.post("/repository/index")
    async def index(_caller: Operator) -> list[dict[str, str]]:
        """List every slot, its state and why."""
        return _index(repository)

    @router.get("/models/{slot}/ready")
    async def ready(slot: Slot, _caller: Operator) -> dict[str, str | bool]:
        """Say whether a slot can answer."""
        if not repository.ready(slot):
            raise Refusal(404, "not_ready", f"{slot}: expected a version that is loaded")
        return {"name": slot, "ready": True}

    return router


def _index(repository: Repository) -> list[dict[str, str]]:
    return [
        {
            "name": slot,
            "version": slot.partition("@")[2],
            "state": held.state.value,
            "sha256": held.files.model.sha256,
            "reason": held.reason,
        }
        for slot, held in repository.index()
    ]
