"""The Open Inference V2 routes of the gateway, which no framework describes for us.

Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from gyral.contracts.deployment import Datatype

Document = dict[str, object]

_SCALAR: Document = {"type": ["string", "number", "boolean"]}
_PARAMETERS: Document = {"type": "object", "additionalProperties": _SCALAR}
_DATATYPE: Document = {"type": "string", "enum": [each.value for each in Datatype]}
_SHAPE: Document = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_TENSOR: Document = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": _SHAPE,
        "datatype": _DATATYPE,
        "parameters": _PARAMETERS,
        "data": {"type": "array", "description": "row-major; null is a missing value"},
    },
}
_PORT: Document = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": _DATATYPE,
        "shape": _SHAPE,
        "parameters": _PARAMETERS,
    },
}
_REQUEST: Document = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "echoed, and nothing else"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"enum": ["probability", "prediction_id"]}},
            },
        },
    },
}
_ANSWER: Document = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
}
_METADATA: Document = {
    "type": "object",
    "required": ["name", "platform", "inputs", "outputs"],
    "properties": {
        "name": {"type": "string"},
        "versions": {"type": "array", "items": {"type": "string"}},
        "platform": {"type": "string"},
        "inputs": {"type": "array", "items": _PORT},
        "outputs": {"type": "array", "items": _PORT},
    },
}
_SERVER: Document = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "extensions": {"type": "array", "items": {"type": "string"}},
    },
}
_ERROR: Document = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}
_REFUSALS = {
    "400": "the request is none of the protocol, or not for this model",
    "401": "no key, or an unknown one",
    "403": "the key lacks the scope infer",
    "404": "no such model or version",
    "413": "more than the gateway takes",
    "429": "too many requests in hand; Retry-After says when",
    "503": "no version answers, or the journal is full; Retry-After says when",
}
_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"


def inference_paths() -> Document:
    """Return the protocol's part of an OpenAPI document."""
    paths: Document = {
        "/v2": {"get": _get("The server", _SERVER)},
        "/v2/health/live": {"get": _get("Alive", _flag("live"), "503")},
        "/v2/health/ready": {"get": _get("Ready", _flag("ready"), "503")},
    }
    for path, names in ((_MODEL, ["model"]), (_VERSION, ["model", "version"])):
        told: Document = {"parameters": [_in_path(name) for name in names]}
        refused = ("401", "403", "404")
        paths[path] = {**told, "get": _keyed(_get("What to send", _METADATA, *refused))}
        paths[f"{path}/ready"] = {
            **told,
            "get": _keyed(_get("Would it be answered", _flag("ready"), *refused, "503")),
        }
        paths[f"{path}/infer"] = {**told, "post": _keyed(_infer())}
    return paths


def _get(summary: str, schema: Document, *refusals: str) -> Document:
    return {
        "summary": summary,
        "security": [],
        "responses": {"200": _json("the answer", schema)} | _refused(*refusals),
    }


def _infer() -> Document:
    sticky = {
        "name": "x-sticky-key",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "callers with the same key get the same version",
    }
    return {
        "summary": "Predict: one input per feature, at most 256 rows",
        "parameters": [sticky],
        "requestBody": {"required": True, **_content(_REQUEST)},
        "responses": {"200": _json("a probability and an id a row", _ANSWER)}
        | _refused(*_REFUSALS),
    }


def _keyed(operation: Document) -> Document:
    return {**operation, "security": [{"key": []}]}


def _refused(*statuses: str) -> Document:
    return {status: _json(_REFUSALS[status], _ERROR) for status in statuses}


def _json(description: str, schema: Document) -> Document:
    return {"description": description, **_content(schema)}


def _content(schema: Document) -> Document:
    return {"content": {"application/json": {"schema": schema}}}


def _flag(name: str) -> Document:
    return {"type": "object", "properties": {name: {"type": "boolean"}}}


def _in_path(name: str) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
