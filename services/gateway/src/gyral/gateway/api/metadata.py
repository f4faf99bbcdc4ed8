"""What the inference protocol says of the server and its models, predictions apart."""

from dataclasses import dataclass

from gyral.contracts.deployment import Datatype, Share
from gyral.gateway.api.questions import ENTITY_KEY, EVENT_TIME
from gyral.gateway.api.refusals import RefusedError
from gyral.gateway.domain.routing import Plan
from gyral.gateway.engine.fleet import Fleet
from gyral.kit.health import Health

PUBLIC = frozenset({"/v2", "/v2/health/live", "/v2/health/ready"})
_VERSION_DIGITS = 9
_MODEL_PARTS = 2


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    model: str
    version: int | None
    action: str
    """`infer`, `ready`, or nothing: the metadata."""


def public(path: str, health: Health) -> tuple[int, dict[str, object]]:
    """Return status and body of a route that needs no key."""
    if path == "/v2":
        return 200, {"name": "gyral", "version": "0.1.0", "extensions": []}
    name = path.rpartition("/")[2]
    wrong = health.dead() if name == "live" else health.unready()
    return (503 if wrong else 200), {name: not wrong, **({"reasons": wrong} if wrong else {})}


def target_of(path: str) -> Target:
    """Return what `/v2/models/{m}[/versions/{v}][/infer|/ready]` names.

    Raises:
        RefusedError: 404.
    """
    match path.split("/")[2:]:
        case ["models", model, *rest] if model:
            version: int | None = None
            if len(rest) >= _MODEL_PARTS and rest[0] == "versions":
                version, rest = _version(rest[1]), rest[2:]
            if not rest or rest in (["infer"], ["ready"]):
                return Target(model, version, rest[0] if rest else "")
    raise RefusedError(
        404, "expected /v2/models/{model}[/versions/{version}] and /infer or /ready or nothing"
    )


def of_model(
    plan: Plan, share: Share | None, target: Target, fleet: Fleet
) -> tuple[int, dict[str, object]]:
    """Return status and body of a model's metadata, or of its readiness."""
    shown = share or (plan.live[0] if plan.live else plan.route.shares[0])
    if target.action == "ready":
        ready = fleet.batcher(plan.route, shown, shadow=False).link.up
        return (200 if ready else 503), {"name": target.model, "ready": ready}
    return 200, {
        "name": target.model,
        "versions": [str(each.version) for each in plan.route.shares],
        "platform": "gyral_onnx",
        "inputs": [
            *(_port(each.name, each.datatype) for each in shown.inputs),
            *(
                _port(
                    name, datatype, optional=not (name == EVENT_TIME and plan.route.event_clock)
                )
                for name, datatype in (
                    (ENTITY_KEY, Datatype.BYTES),
                    (EVENT_TIME, Datatype.INT64),
                )
                if name not in plan.known_inputs
            ),
        ],
        "outputs": [
            _port("probability", Datatype.FP64),
            _port("prediction_id", Datatype.BYTES),
        ],
    }


def _port(name: str, datatype: Datatype, *, optional: bool = False) -> dict[str, object]:
    port: dict[str, object] = {"name": name, "datatype": datatype.value, "shape": [-1]}
    return {**port, "parameters": {"optional": True}} if optional else port


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _VERSION_DIGITS):
        raise RefusedError(404, f"version: expected a number such as 3; found {text[:20]!r}")
    return int(text)
