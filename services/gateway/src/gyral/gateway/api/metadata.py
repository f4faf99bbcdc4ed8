"""What the inference protocol says of the server and its models, predictions apart."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from gyral.contracts.deployment import Datatype, Share
from gyral.gateway.api.asked import ENTITY_KEY, EVENT_TIME, PROBABILITY
from gyral.gateway.api.front import Addressed
from gyral.gateway.api.refusals import RefusedError
from gyral.gateway.engine.fleet import Fleet
from gyral.kit.health import Health

PUBLIC = frozenset({"/v2", "/v2/health/live", "/v2/health/ready"})
SERVER: Mapping[str, str | Sequence[str]] = {
    "name": "gyral",
    "version": "0.1.0",
    "extensions": ["binary_tensor_data", "model_repository"],
}
_PREDICT = ":predict"
_VERSION_DIGITS = 9
_MODEL_PARTS = 2
_MAX_NAME = 63
"""Characters of a model's name; paths with longer ones are neither found nor kept in mind."""


class Target(msgspec.Struct, frozen=True, gc=False):
    """What a path names."""

    model: str
    version: int | None
    action: str
    """`infer`, `predict`, `ready`, or nothing: the metadata."""


class Port(msgspec.Struct, omit_defaults=True):
    """One input or output of a model."""

    name: str
    datatype: Datatype
    parameters: dict[str, bool] = {}
    shape: tuple[int, ...] = msgspec.field(default_factory=lambda: (-1,))


class About(msgspec.Struct):
    """What a client must know of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Port]
    outputs: list[Port]


def ours(path: str) -> bool:
    """Return whether a path is of the inference protocol, or of its plain form."""
    return path.startswith("/v2/") or path == "/v2" or _plain(path)


def public(path: str, health: Health) -> tuple[int, object]:
    """Return status and body of a route that needs no key."""
    if path == "/v2":
        return 200, SERVER
    name = path.rpartition("/")[2]
    wrong = health.dead() if name == "live" else health.unready()
    return (503 if wrong else 200), {name: not wrong, **({"reasons": wrong} if wrong else {})}


@lru_cache(maxsize=1024)
def target_of(path: str) -> Target:
    """Return what a path names.

    It is `/v2/models/{m}[/versions/{v}][/infer|/ready]` or
    `/v1/models/{m}[/versions/{v}]:predict`.

    Raises:
        RefusedError: 404.
    """
    if _plain(path):
        match path.removesuffix(_PREDICT).split("/")[3:]:
            case [model] if model:
                return Target(_model(model), None, "predict")
            case [model, "versions", number] if model:
                return Target(_model(model), _version(number), "predict")
        raise RefusedError(
            404, "expected /v1/models/{model}[/versions/{version}]:predict; found another path"
        )
    match path.split("/")[2:]:
        case ["models", model, *rest] if model:
            version: int | None = None
            if len(rest) >= _MODEL_PARTS and rest[0] == "versions":
                version, rest = _version(rest[1]), rest[2:]
            if not rest or rest in (["infer"], ["ready"]):
                return Target(_model(model), version, rest[0] if rest else "")
    raise RefusedError(
        404, "expected /v2/models/{model}[/versions/{version}] and /infer or /ready or nothing"
    )


def of_model(to: Addressed, action: str, fleet: Fleet) -> tuple[int, object]:
    """Return status and body of a model's metadata, or of its readiness."""
    if action == "ready":
        ready = is_ready(to, fleet)
        return (200 if ready else 503), {"name": to.plan.route.model, "ready": ready}
    return 200, about(to)


def about(to: Addressed) -> About:
    """Return what to send to a model, and what it answers."""
    plan = to.plan
    own = {
        ENTITY_KEY: (Datatype.BYTES, True),
        EVENT_TIME: (Datatype.INT64, not plan.route.event_clock),
    }
    return About(
        name=plan.route.model,
        versions=[str(each.version) for each in plan.route.shares],
        platform="gyral",
        inputs=[
            *(Port(each.name, each.datatype) for each in shown_of(to).inputs),
            *(
                Port(name, datatype, {"optional": True} if optional else {})
                for name, (datatype, optional) in own.items()
                if name not in plan.known_inputs
            ),
        ],
        outputs=[Port(PROBABILITY, Datatype.FP64), Port("prediction_id", Datatype.BYTES)],
    )


def shown_of(to: Addressed) -> Share:
    """Return the version that a model's metadata speak of."""
    return to.named or (to.plan.live[0] if to.plan.live else to.plan.route.shares[0])


def is_ready(to: Addressed, fleet: Fleet) -> bool:
    """Return whether a runtime is there to answer."""
    return fleet.batcher(to.plan.route, shown_of(to), shadow=False).link.up


def _plain(path: str) -> bool:
    return path.endswith(_PREDICT) and path.startswith("/v1/models/")


def _model(name: str) -> str:
    if len(name) > _MAX_NAME:
        raise RefusedError(404, f"{name[:80]}: expected a model with a route; found none")
    return name


def version_of(text: str) -> int | None:
    """Return the version that a message names, or None where it leaves that open."""
    return _version(text) if text else None


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _VERSION_DIGITS):
        raise RefusedError(404, f"version: expected a number such as 3; found {text[:20]!r}")
    return int(text)
