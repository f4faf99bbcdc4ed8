"""What the services answer, as far as the client reads it; fields added later are ignored."""

from datetime import datetime

from msgspec import Raw, Struct

Projections = dict[str, dict[str, int]]
"""Topic to the generation of each declared thing a service knows."""


class Applied(Struct, frozen=True):
    """What a declaration came to."""

    kind: str
    name: str
    generation: int
    changed: bool


class Stream(Struct, frozen=True):
    """A declared stream; its document as the registry keeps it."""

    name: str
    generation: int
    spec: Raw


class Ids(Struct, frozen=True):
    """First and last record id of a request."""

    first: str
    last: str


class Accepted(Struct, frozen=True):
    """Rows that Kafka holds."""

    accepted: int
    ids: Ids


class Marked(Struct, frozen=True):
    """The event time a marker was set at."""

    event_time: str


class Tensor(Struct, frozen=True):
    """An input or output of a model."""

    name: str
    datatype: str


class Metadata(Struct, frozen=True):
    """What a served model reads and answers."""

    name: str
    versions: list[str]
    inputs: list[Tensor]


class Output(Struct, frozen=True):
    """One tensor of an answer."""

    name: str
    data: list[float | str]


class Inferred(Struct, frozen=True):
    """An answered prediction request."""

    model_name: str
    model_version: str
    outputs: list[Output]

    def output(self, name: str) -> list[float | str]:
        """Return one output's cells."""
        return next(each.data for each in self.outputs if each.name == name)


class Share(Struct, frozen=True):
    """One version's part in a route."""

    version: int
    weight: int
    shadow: bool = False


class Route(Struct, frozen=True):
    """Which versions answer."""

    epoch: int
    versions: list[Share]


class Decided(Struct, frozen=True):
    """Which versions the deployer wants to answer."""

    epoch: int
    shares: list[Share]


class Pin(Struct, frozen=True):
    """What a gateway answers by in an emergency, or what a pin would do there now."""

    epoch: int
    version: int
    pin_id: str | None = None
    instead_of: int | None = None


class Request(Struct, frozen=True):
    """A retraining the monitor asked for."""

    request_id: str
    as_of: datetime
    cause: str
    evidence: dict[str, float | str | None]


class Measured(Struct, frozen=True):
    """How far the monitor is with a model."""

    measured_until: datetime | None
    requests: list[Request]


class Outcome(Struct, frozen=True):
    """What became of a request for training."""

    request_id: str
    outcome: str
    reason: str | None = None
    run_id: str | None = None
    model: str | None = None


class Run(Struct, frozen=True):
    """A training run."""

    run_id: str
    request_id: str
    model: str
    cause: str
    as_of: datetime
    state: str
    in_flight: bool
    created_at: datetime
    reason: str | None = None
    ended_at: datetime | None = None


class Verdict(Struct, frozen=True):
    """What a run's result was judged to be."""

    state: str
    version: int | None = None
    reasons: list[str] = []


class Version(Struct, frozen=True):
    """A judged version."""

    version: int
    state: str
    run_id: str
    request_id: str
    cause: str
    as_of: str
    reasons: list[str]
    metrics: dict[str, float | None]


class Rollout(Struct, frozen=True):
    """One version's way to serving."""

    model: str
    version: int
    stage: str
    weight: int
    epoch: int | None = None
    previous: int | None = None
    reason: str | None = None


class Counted(Struct, frozen=True):
    """How far the deployer has counted a model's predictions."""

    watermark: datetime | None
    epoch: int | None
    rollout: Rollout | None


class Model(Struct, frozen=True):
    """A declared model and the version that serves it."""

    name: str
    generation: int
    champion: int | None


class Alarm(Struct, frozen=True):
    """One detector's alarm at one block; of drift, a warning."""

    window_start: datetime
    detector: str
    version: int
    measured: float
    threshold: float
    feature: str | None = None
    request_id: str | None = None


class Dataset(Struct, frozen=True):
    """An announced version of a stream's table, and what it pins."""

    stream: str
    version: int
    watermark: datetime
    usable_until: datetime
    rows: int
    content: str | None = None
    schema_version: int | None = None
    erased_at: datetime | None = None
    """When rows of somebody who was erased left it: it holds less than was announced."""


class Verification(Struct, frozen=True):
    """Whether the audit chain holds."""

    entries: int
    head: str
    broken_at: int | None
