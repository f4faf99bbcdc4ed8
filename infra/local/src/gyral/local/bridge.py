"""Takes OTLP traces and hands them to Zipkin, which speaks no OTLP; for the local stack."""

import gzip
import json
import os
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Json = str | int | float | list["Json"] | dict[str, "Json"]

_LARGEST_BODY_BYTES = 16 << 20
_ZIPKIN_TIMEOUT_S = 10
_KINDS = {
    Span.SPAN_KIND_SERVER: "SERVER",
    Span.SPAN_KIND_CLIENT: "CLIENT",
    Span.SPAN_KIND_PRODUCER: "PRODUCER",
    Span.SPAN_KIND_CONSUMER: "CONSUMER",
}
_MESSAGING = (Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER)


def translate(request: ExportTraceServiceRequest) -> list[dict[str, Json]]:
    """Return the request's spans as Zipkin's second format has them."""
    return [
        _span(span, _service(resource.resource.attributes), scope.scope.name)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _span(span: Span, service: str, scope: str) -> dict[str, Json]:
    tags = dict(_tags(span, scope))
    translated: dict[str, Json] = {
        "traceId": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "name": span.name,
        "timestamp": span.start_time_unix_nano // 1000,
        "duration": max(1, (span.end_time_unix_nano - span.start_time_unix_nano) // 1000),
        "localEndpoint": {"serviceName": service},
        "tags": dict(tags),
        "annotations": [
            {"timestamp": event.time_unix_nano // 1000, "value": _event(event)}
            for event in span.events
        ],
    }
    if span.kind in _KINDS:
        translated["kind"] = _KINDS[span.kind]
    if span.parent_span_id:
        translated["parentId"] = span.parent_span_id.hex()
    remote = _remote(span.kind, tags)
    if remote:
        translated["remoteEndpoint"] = {"serviceName": remote}
    return translated


def _tags(span: Span, scope: str) -> Iterator[tuple[str, str]]:
    for attribute in span.attributes:
        yield attribute.key, _text(attribute.value)
    yield "otel.scope.name", scope
    # Zipkin has no links: as tags they are still found, and followed by hand.
    for number, link in enumerate(span.links):
        yield f"link.{number}", f"{link.trace_id.hex()}/{link.span_id.hex()}"
    if span.status.code == Status.STATUS_CODE_ERROR:
        yield "error", span.status.message or "true"


def _remote(kind: int, tags: Mapping[str, str]) -> str | None:
    """Name what is at the other end, so that Zipkin draws it into the graph of dependencies."""
    if kind in _MESSAGING and "messaging.system" in tags:
        return tags["messaging.system"]
    if kind == Span.SPAN_KIND_CLIENT:
        return tags.get("db.system.name") or tags.get("db.system")
    return None


def _service(attributes: Iterable[KeyValue]) -> str:
    return next((_text(a.value) for a in attributes if a.key == "service.name"), "unknown")


def _event(event: Span.Event) -> str:
    said = "; ".join(
        f"{a.key}={_text(a.value)}"
        for a in event.attributes
        if not a.key.endswith("stacktrace")
    )
    return f"{event.name}: {said}" if said else event.name


def _text(value: AnyValue) -> str:
    """Return any attribute as text: Zipkin's tags are nothing else."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return ",".join(_text(one) for one in value.array_value.values)
    if kind == "kvlist_value":
        return ",".join(f"{one.key}={_text(one.value)}" for one in value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.decode("utf-8", "replace")
    if kind == "bool_value":
        return str(value.bool_value).lower()
    return "" if kind is None else str(getattr(value, kind))


class Bridge(ThreadingHTTPServer):
    """Listens for OTLP and knows where Zipkin is."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, zipkin_url: str) -> None:
        super().__init__((host, port), _Exchange)
        self.spans_url = f"{zipkin_url}/api/v2/spans"

    def forward(self, request: ExportTraceServiceRequest) -> None:
        """Send the spans to Zipkin.

        Raises:
            URLError: Zipkin does not take them.
        """
        body = json.dumps(translate(request)).encode()
        headers = {"Content-Type": "application/json"}
        post = urllib.request.Request(self.spans_url, body, headers)  # noqa: S310 - our own address
        with urllib.request.urlopen(post, timeout=_ZIPKIN_TIMEOUT_S) as answer:  # noqa: S310
            answer.read()


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bridge
    timeout = 60

    def do_POST(self) -> None:
        """Take one export."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/v1/traces":
            self._answer(404)
        elif not length.isdigit() or int(length) > _LARGEST_BODY_BYTES:
            self._answer(413)
        else:
            self._answer(self._take(self.rfile.read(int(length))))

    def do_GET(self) -> None:
        """Say that we listen."""
        self._answer(200 if self.path == "/health" else 404)

    def _take(self, body: bytes) -> int:
        try:
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.server.forward(ExportTraceServiceRequest.FromString(body))
        except (DecodeError, OSError, EOFError) as error:
            # 503 has exporters send again; what cannot be read is refused for good.
            return 503 if isinstance(error, URLError | TimeoutError) else 400
        return 200

    def _answer(self, status: int) -> None:
        body = ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        if status == 413:  # noqa: PLR2004 - the body was not read: the connection cannot go on
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
        """Say nothing of single requests."""


def main() -> None:
    """Serve until told to stop."""
    with Bridge(
        os.environ["HTTP_HOST"], int(os.environ["HTTP_PORT"]), os.environ["ZIPKIN_URL"]
    ) as bridge:
        bridge.serve_forever()


if __name__ == "__main__":
    main()
