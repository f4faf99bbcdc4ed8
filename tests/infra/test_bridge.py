import gzip
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.error import HTTPError

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gyral.local.bridge import Bridge, translate

SECOND = 1_000_000_000


def attribute(key: str, text: str) -> KeyValue:
    made = KeyValue(key=key)
    made.value.string_value = text
    return made


def a_request(given: Span | None = None) -> ExportTraceServiceRequest:
    """Return an export of one span: the usual one, with what is given on top."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(attribute("service.name", "trainer"))
    scope = resource.scope_spans.add()
    scope.scope.name = "gyral"
    span = scope.spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8, name="run.started")
    span.start_time_unix_nano, span.end_time_unix_nano = 5 * SECOND, 7 * SECOND
    if given is not None:
        span.MergeFrom(given)
    return request


def test_a_span_keeps_its_ids_times_and_service():
    [span] = translate(a_request(Span(parent_span_id=b"\3" * 8)))
    assert span["traceId"] == "01" * 16
    assert (span["id"], span["parentId"]) == ("02" * 8, "03" * 8)
    assert (span["timestamp"], span["duration"]) == (5_000_000, 2_000_000)
    assert span["localEndpoint"] == {"serviceName": "trainer"}
    assert "kind" not in span


def test_links_become_tags():
    linked = Span.Link(trace_id=b"\4" * 16, span_id=b"\5" * 8)
    [span] = translate(a_request(Span(links=[linked])))
    link = "04" * 16 + "/" + "05" * 8
    assert span["tags"] == {"otel.scope.name": "gyral", "link.0": link}


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (Span.SPAN_KIND_CONSUMER, "messaging.system", "kafka"),
        (Span.SPAN_KIND_PRODUCER, "messaging.system", "kafka"),
        (Span.SPAN_KIND_CLIENT, "db.system", "postgresql"),
        (Span.SPAN_KIND_CLIENT, "db.system.name", "postgresql"),
    ],
)
def test_the_other_end_is_named(kind: Span.SpanKind.ValueType, key: str, value: str):
    [span] = translate(a_request(Span(kind=kind, attributes=[attribute(key, value)])))
    assert span["remoteEndpoint"] == {"serviceName": value}
    assert span["kind"] in {"CONSUMER", "PRODUCER", "CLIENT"}


def test_errors_and_values_of_every_type_become_text():
    attributes = [
        KeyValue(key=name) for name in ("flag", "count", "share", "list", "raw", "none")
    ]
    attributes[0].value.bool_value = True
    attributes[1].value.int_value = 3
    attributes[2].value.double_value = 0.5
    for word in ("a", "b"):
        attributes[3].value.array_value.values.add().string_value = word
    attributes[4].value.bytes_value = b"key"
    failed = Status(code=Status.STATUS_CODE_ERROR, message="ValueError")
    [span] = translate(a_request(Span(attributes=attributes, status=failed)))
    assert span["tags"] == {
        "flag": "true",
        "count": "3",
        "share": "0.5",
        "list": "a,b",
        "raw": "key",
        "none": "",
        "otel.scope.name": "gyral",
        "error": "ValueError",
    }


class Store(HTTPServer):
    """Keeps what it is sent, as Zipkin does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Keep)
        self.taken: list[bytes] = []


class Keep(BaseHTTPRequestHandler):
    server: Store

    def do_POST(self) -> None:
        self.server.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        pass


@contextmanager
def serving(server: HTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(url: str, body: bytes, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:  # noqa: S310
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def test_exports_reach_zipkin_compressed_or_not():
    store = Store()
    body = a_request().SerializeToString()
    packed = {"Content-Encoding": "gzip"}
    with (
        serving(store) as zipkin,
        serving(Bridge("127.0.0.1", 0, zipkin)) as bridge,
    ):
        assert send(f"{bridge}/v1/traces", body) == 200
        assert send(f"{bridge}/v1/traces", gzip.compress(body), **packed) == 200
    assert [json.loads(one)[0]["name"] for one in store.taken] == ["run.started"] * 2


def test_what_cannot_be_read_is_refused_and_what_cannot_be_sent_is_asked_for_again():
    with serving(Bridge("127.0.0.1", 0, "http://127.0.0.1:9")) as bridge:
        assert send(f"{bridge}/v1/traces", b"\xff\xff") == 400
        assert send(f"{bridge}/v1/traces", b"plain", **{"Content-Encoding": "gzip"}) == 400
        assert send(f"{bridge}/v1/logs", b"") == 404
        assert send(f"{bridge}/v1/traces", a_request().SerializeToString()) == 503
