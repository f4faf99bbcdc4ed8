"""What `make bench-serving` found, as its last line says it and the page reads it."""

from collections.abc import Mapping, Sequence
from typing import Literal

from tests.bench.report import Figures, Report

PEERS = ("kserve", "mlserver", "litserve", "mlflow", "bentoml", "ray")
CONNECTIONS = (1, 16, 64)


class Cell(Figures):
    """One server at one number of connections: the middle one of some windows."""

    rps: float
    p50_ms: float
    p99_ms: float


class Cells(Figures):
    """One server, single rows as JSON."""

    c1: Cell
    c16: Cell
    c64: Cell


class Ratios(Figures):
    """Something of the gateway over the same of KServe, in one run."""

    c1: float
    c16: float
    c64: float


class Rows(Figures):
    """Requests of many rows, over 16 connections."""

    rows: int
    gateway_rows_per_s: float
    kserve_rows_per_s: float
    over_kserve: float


class Overload(Figures):
    """A slow model, asked ten times as often as it can answer."""

    capacity_rps: float
    offered_rps: float
    goodput_rps: float
    goodput_share: float
    """Answered with 200 a second, over the capacity."""
    served_p99_ms: float
    p99_ratio: float
    """Over the p99 at capacity."""
    refused_share: float
    """Answered with 429 and Retry-After, of all that was not answered with 200."""
    recovery_s: float
    """From the end of the overload until p99 was normal again."""


class HalfOpen(Figures):
    """A steady rate of requests, with and without connections that never finish theirs."""

    sockets: int
    rps: float
    calm_p99_ms: float
    p99_ms: float
    p99_ratio: float
    closed_s: float
    """From the end of a window until the gateway had closed them all, at most."""


class ServingReport(Report):
    """What `make bench-serving` prints."""

    benchmark: Literal["bench-serving"] = "bench-serving"
    seconds: float
    gateway: Cells
    gateway_binary: Cells
    """The same, its tensors in binary; the answers are JSON."""
    gateway_grpc: Cells | None = None
    """The same over gRPC, raw tensors both ways, from another generator."""
    kserve: Cells
    mlserver: Cells | None = None
    litserve: Cells | None = None
    mlflow: Cells | None = None
    bentoml: Cells | None = None
    ray: Cells | None = None
    ceiling: Cells
    """Raw ASGI around the same model: no key, validation, routing, log, metrics or traces."""
    over_kserve: Ratios
    p99_over_kserve: Ratios
    rows: Rows
    overload: Overload | None = None
    half_open: HalfOpen | None = None
    stages_us: Mapping[str, float]
    """What a request costs the gateway, by stage, measured apart on one core."""
    core_us: Mapping[str, float]
    """Core time a request at 64 connections, by process."""
    foreign_cpu: float
    """Largest share of the machine that others had in a window."""
    logged: int
    """Records of the prediction log after the gateway's windows: all that was answered."""


class Held(Figures):
    """What one process held while requests went through it; MB are 10^6 bytes."""

    process: str
    warm_mb: float
    """After the first tenth of the requests."""
    end_mb: float
    peak_mb: float
    mb_per_million_requests: float
    """Slope of the line through all samples after the first tenth."""
    samples: Sequence[tuple[int, float]]
    """Requests, MB."""


class LongServingReport(Report):
    """What `make bench-serving-long` prints."""

    benchmark: Literal["bench-serving-long"] = "bench-serving-long"
    seconds: float
    requests: int
    rps: float
    memory: Sequence[Held]


class Density(Figures):
    """Many models in one runtime under one budget; MB beyond what an empty runtime holds."""

    budget_mb: float
    ready_s: float
    """From its start until it answers with all of them."""
    loaded_mb: float
    end_mb: float
    same_ms: Mapping[str, float]
    """One model asked over and over."""
    turns_ms: Mapping[str, float]
    """All models asked in turn: where they do not fit, each was put out before it is asked."""


class ColdStart(Figures):
    """What the first request to a model waits that has no runtime, gateway to gateway."""

    starts: int
    p50_s: float
    longest_s: float
    warm_p50_ms: float
    """The same request while the runtime is there."""


class DensityReport(Report):
    """What `make bench-density` prints."""

    benchmark: Literal["bench-density"] = "bench-density"
    models: int
    model_bytes: int
    empty_mb: float
    runs: Sequence[Density]
    cold_start: ColdStart | None = None


def over(ours: Cells, theirs: Cells, figure: str) -> Ratios:
    """Return one figure of ours over the same of theirs."""
    return Ratios(
        **{
            name: round(
                getattr(getattr(ours, name), figure) / getattr(getattr(theirs, name), figure), 3
            )
            for name in Cells.model_fields
        }
    )
