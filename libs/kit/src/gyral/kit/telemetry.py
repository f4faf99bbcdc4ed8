"""What code says about itself: spans, meters, log events; `exporters` decides where they go."""

import hashlib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry import context, metrics, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attribute = str | int | float | bool
_PROPAGATOR = TraceContextTextMapPropagator()
_STACK_CHARS = 8000


def get_log() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; events are named `subject.happened`, their facts are keywords."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


def frames(error: BaseException) -> str:
    """Return where an error comes from, without what it says: its text may quote a row."""
    return "".join(traceback.format_tb(error.__traceback__))[-_STACK_CHARS:]


def nameless(name: str) -> str:
    """Return what a name is called on /metrics, which anybody may read."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def get_meter() -> metrics.Meter:
    """Return the meter all instruments come from."""
    return metrics.get_meter("gyral")


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the current span, or None outside any."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Attribute | None] | None = None,
    **more: Attribute | None,
) -> Iterator[Span]:
    """Open a span: the child of `parent` (a traceparent) when given, else of the current span.

    An exception that leaves the block marks the span as failed, by its type's name only.
    """
    surrounding = (
        _PROPAGATOR.extract({"traceparent": parent}) if parent else context.get_current()
    )
    tracer = trace.get_tracer("gyral")
    given = {
        name.replace("__", "."): value
        for name, value in {**(attributes or {}), **more}.items()
        if value is not None
    }
    with tracer.start_as_current_span(
        name,
        context=surrounding,
        kind=kind,
        attributes=given,
        record_exception=False,
        set_status_on_exception=False,
    ) as opened:
        try:
            yield opened
        except Exception as error:
            opened.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


class Sometimes:
    """Opens one span in every `one_in`, for the data plane's many batches."""

    def __init__(self, one_in: int = 100) -> None:
        self._one_in = one_in
        self._count = 0

    def turn(self) -> bool:
        """Return whether it is this one's turn to have a span."""
        self._count += 1
        return self._count % self._one_in == 0

    @contextmanager
    def span(self, name: str, **attributes: Attribute | None) -> Iterator[None]:
        """Open a span of its own trace, or none."""
        if not self.turn():
            yield
            return
        with span(name, attributes=attributes):
            yield
