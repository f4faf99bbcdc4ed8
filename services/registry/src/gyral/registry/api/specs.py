"""Routes for what users declare: streams, models, and trainings by hand."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AwareDatetime

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.contracts.names import ModelName, Reason, StreamName
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.training import Cause
from gyral.kit.access import Caller
from gyral.kit.bodies import parse_json, parse_model, read_body
from gyral.kit.http import read_model, scope
from gyral.kit.parameters import AfterModel, AfterStream, Limit
from gyral.kit.refusals import Refusal
from gyral.registry.api import Desk
from gyral.registry.domain.specs import Generation, IncompatibleSpecError
from gyral.registry.store import RegistryTx
from gyral.registry.store.declarations import Author

MAX_SPEC_BYTES = 1 << 20
Reader = Annotated[Caller, scope(Scope.READ)]


class Applied(Contract):
    """What a declaration came to."""

    kind: str
    name: str
    generation: int
    changed: bool


class Retrain(Contract):
    """A training asked for by hand."""

    reason: Reason


class Requested(Contract):
    """The request that was published."""

    request_id: str


class ModelView(Contract):
    """A model as it stands: its declaration, and the version that serves it."""

    name: str
    generation: int
    champion: int | None
    previous: int | None
    champion_since: AwareDatetime | None
    spec: ModelSpec


class StreamView(Contract):
    """A stream as it is declared."""

    name: str
    generation: int
    rows: int
    watermark: AwareDatetime | None
    spec: StreamSpec


def routes(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.post("/v1/specs")
    async def apply(request: Request, caller: Annotated[Caller, scope(Scope.ADMIN)]) -> Applied:
        body = await read_body(
            request.stream(),
            encoding=request.headers.get("content-encoding"),
            max_bytes=MAX_SPEC_BYTES,
        )
        return await _declare(desk, body, Author(caller.name, desk.now(), desk.new_id()))

    @router.get("/v1/streams")
    async def streams(
        _caller: Reader, after: AfterStream = None, limit: Limit = 100
    ) -> list[StreamView]:
        """List streams by name."""
        async with desk.begin() as tx:
            rows = await tx.all_declared("Stream", after=after, limit=limit)
            return [await _stream(tx, row.name) for row in rows]

    @router.get("/v1/streams/{name}")
    async def stream(name: StreamName, _caller: Reader) -> StreamView:
        async with desk.begin() as tx:
            return await _stream(tx, name)

    @router.get("/v1/models")
    async def models(
        _caller: Reader, after: AfterModel = None, limit: Limit = 100
    ) -> list[ModelView]:
        """List models by name."""
        async with desk.begin() as tx:
            rows = await tx.all_declared("Model", after=after, limit=limit)
            return [await _model(tx, row.name) for row in rows]

    @router.get("/v1/models/{name}")
    async def model(name: ModelName, _caller: Reader) -> ModelView:
        async with desk.begin() as tx:
            return await _model(tx, name)

    @router.post("/v1/models/{name}/retrain", status_code=HTTPStatus.ACCEPTED)
    async def retrain(
        name: ModelName,
        request: Request,
        caller: Annotated[Caller, scope(Scope.OPERATE)],
    ) -> Requested:
        asked = await read_model(request, Retrain)
        author = Author(caller.name, desk.now(), desk.new_id())
        async with desk.begin() as tx:
            view = await _model(tx, name)
            if not await tx.ask_for_training(
                view.spec, view.generation, Cause.MANUAL, author, reason=asked.reason
            ):
                raise Refusal(
                    HTTPStatus.CONFLICT,
                    "not_yet",
                    f"{name}: expected a champion and committed data; found none: "
                    "wait for the bootstrap",
                )
            await tx.audit(
                now=author.now,
                actor=author.name,
                action="training.requested",
                subject=name,
                reason=asked.reason,
                change={"request_id": author.request_id},
            )
        return Requested(request_id=author.request_id)

    return router


async def _declare(desk: Desk, body: bytes, author: Author) -> Applied:
    """Take a stream's or a model's declaration, told apart by `kind`."""
    document = parse_json(body)
    kind = document.get("kind") if isinstance(document, dict) else None
    try:
        async with desk.begin() as tx:
            if kind == "Stream":
                stream = parse_model(body, StreamSpec)
                return _applied("Stream", stream.name, await tx.declare_stream(stream, author))
            if kind == "Model":
                model = parse_model(body, ModelSpec)
                return _applied("Model", model.name, await tx.declare_model(model, author))
    except IncompatibleSpecError as error:
        raise Refusal(
            HTTPStatus.CONFLICT, "incompatible", str(error), field=error.field
        ) from error
    raise Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid",
        f"kind: expected Stream or Model; found {str(kind)[:40]!r}",
        field="kind",
    )


def _applied(kind: str, name: str, generation: Generation) -> Applied:
    return Applied(
        kind=kind, name=name, generation=generation.number, changed=generation.changed
    )


def not_found(what: str, name: str) -> Refusal:
    """Return the answer for something that does not exist."""
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "not_found",
        f"{what}: expected one that exists; found none called {name[:100]!r}",
    )


async def _stream(tx: RegistryTx, name: str) -> StreamView:
    declared, spec = await tx.declared("Stream", name), await tx.stream_spec(name)
    if declared is None or spec is None:
        raise not_found("stream", name)
    data = await tx.data(name)
    return StreamView(
        name=name,
        generation=declared.generation,
        rows=data.rows if data else 0,
        watermark=data.watermark if data else None,
        spec=spec,
    )


async def _model(tx: RegistryTx, name: str) -> ModelView:
    declared, spec = await tx.declared("Model", name), await tx.model_spec(name)
    if declared is None or spec is None:
        raise not_found("model", name)
    champion = await tx.champion(name)
    return ModelView(
        name=name,
        generation=declared.generation,
        champion=champion.version if champion else None,
        previous=champion.previous if champion else None,
        champion_since=champion.as_of if champion else None,
        spec=spec,
    )
