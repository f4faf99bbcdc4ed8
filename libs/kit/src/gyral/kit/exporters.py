"""Where spans, metrics and logs go: one call at the start of a process."""

import logging
import sys

import structlog
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_QUIET = ("aiokafka", "faststream", "asyncio", "urllib3", "opentelemetry", "uvicorn.access")


def setup(service: str, *, traces_endpoint: str | None, log_level: str = "info") -> None:
    """Send traces to OTLP/HTTP, metrics to the Prometheus registry, logs to stderr as JSON."""
    resource = Resource.create({"service.name": service, "service.namespace": "gyral"})
    tracer = TracerProvider(resource=resource, shutdown_on_exit=False)
    if traces_endpoint:
        exporter = OTLPSpanExporter(endpoint=traces_endpoint, timeout=5)
        tracer.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=1000, max_queue_size=8192)
        )
    trace.set_tracer_provider(tracer)
    metrics.set_meter_provider(
        MeterProvider(
            metric_readers=[PrometheusMetricReader()], resource=resource, shutdown_on_exit=False
        )
    )
    _setup_logs(service, log_level)


class _Seldom(logging.Filter):
    """Lets a library's complaint through once in a while: an outage repeats it for minutes."""

    def __init__(self, *, every_s: float = 10.0) -> None:
        super().__init__()
        self._every_s = every_s
        self._last_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether this place in the code has been silent for long enough."""
        place = f"{record.pathname}:{record.lineno}"
        recent = record.created - self._last_s.get(place, 0.0) < self._every_s
        if not recent:
            self._last_s[place] = record.created
        return record.name.startswith("gyral") or not recent


def flush() -> None:
    """Send what is still queued; call it last, off the event loop."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def _setup_logs(service: str, log_level: str) -> None:
    level = logging.getLevelNamesMapping()[log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_service(service),
        _with_trace,
        structlog.processors.format_exc_info,
    ]
    # ESC, newlines and all non-ASCII are escaped: no line forges another or drives a terminal.
    renderer = structlog.processors.JSONRenderer(ensure_ascii=True)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Seldom())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    # It tells of every request at INFO, and of what goes wrong by an exception.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _with_service(service: str) -> structlog.typing.Processor:
    def add(
        _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add


def _with_trace(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    spanned = trace.get_current_span().get_span_context()
    if spanned.is_valid:
        event["trace_id"] = format(spanned.trace_id, "032x")
    return event
