"""What is generated from the events.

Their JSON Schemas, the AsyncAPI document, and the page that lists them.
"""

import inspect
import json
from collections.abc import Iterator

from gyral.contracts.batches import (
    BATCH_HEADERS,
    MAX_BATCH_BYTES,
    MAX_BATCH_ROWS,
    BatchForm,
    BatchSubmitted,
)
from gyral.contracts.catalogue import BATCHES, EVENTS
from gyral.contracts.evaluation import EvaluationReport
from gyral.contracts.events import Event
from gyral.contracts.parties import PARTIES
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Document = dict[str, object]


def schemas() -> Iterator[tuple[str, Document]]:
    """Yield (file name, JSON Schema) of each event and each declared document."""
    for event in EVENTS:
        yield f"{event.topic.name}.json", schema_of(event)
    for name, document in (
        ("spec.stream.v1", StreamSpec),
        ("spec.model.v1", ModelSpec),
        ("evaluation.v1", EvaluationReport),
    ):
        yield f"{name}.json", {"$schema": DIALECT} | document.model_json_schema()


def schema_of(event: type[Event]) -> Document:
    """Return the closed JSON Schema of an event's data."""
    return {"$schema": DIALECT, "$id": f"gyral:{event.topic.name}"} | event.model_json_schema()


def asyncapi() -> Document:
    """Return the AsyncAPI 3.0 document: every topic, who sends and who receives, and what."""
    channels: Document = {}
    operations: Document = {}
    messages: Document = {}
    for event in EVENTS:
        name = event.__name__
        carried = (name, *(b.__name__ for b in BATCHES if b.topic == event.topic))
        channels[event.topic.name] = {
            "address": event.topic.name,
            "description": inspect.getdoc(event),
            "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in carried},
            "bindings": {"kafka": {"partitions": event.topic.partitions}},
        }
        messages[name] = {
            "name": event.topic.name,
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
            "payload": {"$ref": f"./schemas/{event.topic.name}.json"},
        }
        for verb, services in (
            ("send", PARTIES[event].producers),
            ("receive", PARTIES[event].consumers),
        ):
            for service in services:
                operations[f"{service}.{verb}.{name}"] = {
                    "action": verb,
                    "channel": {"$ref": f"#/channels/{event.topic.name}"},
                    "tags": [{"name": service}],
                }
    messages |= {batch.__name__: _batch_message(batch) for batch in BATCHES}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Gyral events",
            "version": "1.0.0",
            "license": {"name": "Apache-2.0"},
            "description": "CloudEvents 1.0 on Kafka, binary mode: attributes in ce_* headers.",
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {"CloudEventHeaders": _HEADERS, "BatchHeaders": _BATCH_HEADERS},
        },
    }


def _batch_message(batch: type[BatchSubmitted]) -> Document:
    return {
        "name": batch.type,
        "description": inspect.getdoc(batch),
        "contentType": BatchForm.NDJSON.value,
        "headers": {"$ref": "#/components/schemas/BatchHeaders"},
        "payload": {"description": _batch_value()},
    }


def _batch_value() -> str:
    forms = " ".join(f"`{form.value}`: {form.says}" for form in BatchForm)
    return (
        f"At most {MAX_BATCH_ROWS:,} rows and {MAX_BATCH_BYTES:,} bytes, as `content-type`"
        f" says. {forms}"
    )


def events_page() -> str:
    """Return docs/events.md."""
    lines = [
        "# Events",
        "",
        "Generated from `contracts/` by `make contracts`; a test keeps it fresh.",
        "",
        "| topic | producers | consumers | partitions | kept | what it says |",
        "|---|---|---|---|---|---|",
    ]
    for event in EVENTS:
        topic, parties = event.topic, PARTIES[event]
        kept = "latest of each key" if topic.compacted else f"{topic.retention_hours} h"
        says = (inspect.getdoc(event) or "").splitlines()[0]
        lines.append(
            f"| `{topic.name}` | {', '.join(parties.producers) or '-'} "
            f"| {', '.join(parties.consumers)} | {topic.partitions} | {kept} | {says} |"
        )
    for batch in BATCHES:
        lines += [
            "",
            f"## `{batch.type}`, in line on `{batch.topic.name}`",
            "",
            inspect.getdoc(batch) or "",
            "",
            f"The value: {_batch_value()}",
            "",
            "Headers, beside those of every CloudEvent: "
            + ", ".join(f"`{name}`" for name in BATCH_HEADERS)
            + ".",
        ]
    return "\n".join([*lines, ""])


def as_text(document: Document) -> str:
    """Return a document as it is committed."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


_HEADERS: Document = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source"],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string"},
        "ce_type": {"type": "string", "description": "the topic's name"},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_correlationid": {"type": "string"},
        "ce_causationid": {"type": "string"},
        "traceparent": {"type": "string"},
    },
}
_BATCH_HEADERS: Document = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", *BATCH_HEADERS],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string"},
        "ce_type": {"const": BatchSubmitted.type},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_stream": {"type": "string", "description": "the stream of every row"},
        "ce_schemaversion": {"type": "string", "description": "its schema version, in decimal"},
        "ce_rows": {"type": "string", "description": "how many rows there are, in decimal"},
        "content-type": {"enum": [form.value for form in BatchForm]},
        "traceparent": {"type": "string"},
    },
}
