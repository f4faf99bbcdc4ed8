"""Finds the trace that connects an alarm with the route it changed."""

from collections.abc import Mapping, Sequence

import asyncpg
import msgspec

from gyral.client.audit.checking import database
from gyral.client.report.content import Trace
from gyral.client.wire import Pool, WireError

_TRACED = """
    SELECT request_id::text, split_part(traceparent, '-', 2)
      FROM trainer.run
     WHERE request_id = ANY($1::uuid[]) AND traceparent IS NOT NULL
"""


class _Endpoint(msgspec.Struct, rename="camel"):
    service_name: str | None = None


class _Span(msgspec.Struct, rename="camel"):
    local_endpoint: _Endpoint | None = None


async def of_requests(settings: Mapping[str, str], request_ids: Sequence[str]) -> Trace | None:
    """Return the trace of the first request that went from the monitor to the deployer.

    Without Zipkin, or when it has forgotten, the trace of the newest request, unproven.
    """
    async with database(settings) as connection:
        known = await ids(connection, request_ids)
    traced = [known[each] for each in request_ids if each in known]
    traces = [await _look(settings.get("ZIPKIN_URL"), each) for each in traced]
    whole = [trace for trace in traces if trace.whole]
    candidates = whole or sorted(traces, key=lambda trace: len(trace.services))[-1:]
    return candidates[0] if candidates else None


async def ids(connection: asyncpg.Connection, request_ids: Sequence[str]) -> Mapping[str, str]:
    """Return the ids of the traces of those requests that became runs."""
    rows = await connection.fetch(_TRACED, list(request_ids))
    return {row[0]: row[1] for row in rows}


async def _look(zipkin: str | None, trace_id: str) -> Trace:
    if zipkin is None:
        return Trace(trace_id)
    try:
        answer = await Pool(zipkin, {}).request("GET", f"/api/v2/trace/{trace_id}")
    except WireError:
        return Trace(trace_id)
    if not answer.is_success:
        return Trace(trace_id)
    try:
        spans = msgspec.json.decode(answer.body, type=list[_Span])
    except msgspec.DecodeError:
        return Trace(trace_id)
    services = {
        span.local_endpoint.service_name
        for span in spans
        if span.local_endpoint and span.local_endpoint.service_name
    }
    return Trace(trace_id, tuple(sorted(services)), len(spans))
