"""The gateway's routes for predictions, which no framework describes for us.

Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

Document = dict[str, object]

_SCALAR: Document = {"type": ["string", "number", "boolean"]}
_PARAMETERS: Document = {"type": "object", "additionalProperties": _SCALAR}
DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "BF16", "FP32", "FP64", "BYTES"),
)
_DATATYPE: Document = {"type": "string", "enum": list(DATATYPES)}
_SHAPE: Document = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_TENSOR: Document = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": _SHAPE,
        "datatype": _DATATYPE,
        "parameters": {**_PARAMETERS, "description": "binary_data_size, where data are binary"},
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
        "parameters": {**_PARAMETERS, "description": "binary_data_output, and no other"},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"enum": ["probability", "prediction_id"]},
                    "parameters": {**_PARAMETERS, "description": "binary_data, and no other"},
                },
            },
        },
    },
}
_CELL: Document = {"type": ["number", "string", "boolean", "null"]}
_FIELDS: Document = {
    "oneOf": [
        {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {
                "instances": {
                    "type": "array",
                    "items": {"type": "object", "additionalProperties": _CELL},
                }
            },
        },
        {
            "type": "object",
            "required": ["columns"],
            "additionalProperties": False,
            "properties": {
                "columns": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "items": _CELL},
                }
            },
        },
    ]
}
_PREDICTIONS: Document = {
    "type": "object",
    "required": ["predictions", "prediction_ids", "model_version"],
    "properties": {
        "predictions": {"type": "array", "items": {"type": "number"}},
        "prediction_ids": {"type": "array", "items": {"type": "string"}},
        "model_version": {"type": "string"},
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
_VERSIONS: Document = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "version", "state", "reason"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "state": {"enum": ["READY", "UNAVAILABLE"]},
            "reason": {"type": "string"},
        },
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
    "403": "the key lacks the scope infer, or operate for the repository",
    "404": "no such model or version",
    "409": "rollouts alone load and unload; gyral rollout steers them",
    "413": "more than the gateway takes",
    "429": "too many requests in hand; Retry-After says when",
    "503": "no version answers, or the journal is full; Retry-After says when",
}
_BINARY: Document = {"application/octet-stream": {"schema": {"type": "string"}}}
_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"


def inference_paths() -> Document:
    """Return the protocol's part of an OpenAPI document."""
    paths: Document = {
        "/v2": {"get": _get("The server", _SERVER)},
        "/v2/health/live": {"get": _get("Alive", _flag("live"), "503")},
        "/v2/health/ready": {"get": _get("Ready", _flag("ready"), "503")},
    }
    paths["/v2/repository/index"] = {"post": _keyed(_index())}
    for change in ("load", "unload"):
        told: Document = {"parameters": [_in_path("model")]}
        refused = _refused("400", "401", "403", "409")
        operation = _keyed({"summary": f"Never {change}s: rollouts do", "responses": refused})
        paths[f"/v2/repository/models/{{model}}/{change}"] = {**told, "post": operation}
    for path, names in ((_MODEL, ["model"]), (_VERSION, ["model", "version"])):
        told = {"parameters": [_in_path(name) for name in names]}
        reasons = ("401", "403", "404")
        paths[path] = {**told, "get": _keyed(_get("What to send", _METADATA, *reasons))}
        paths[f"{path}/ready"] = {
            **told,
            "get": _keyed(_get("Would it be answered", _flag("ready"), *reasons, "503")),
        }
        paths[f"{path}/infer"] = {**told, "post": _keyed(_infer())}
        plain = path.replace("/v2/", "/v1/")
        paths[f"{plain}:predict"] = {**told, "post": _keyed(_predict())}
    return paths


def _get(summary: str, schema: Document, *refusals: str) -> Document:
    return {
        "summary": summary,
        "security": [],
        "responses": {"200": _json("the answer", schema)} | _refused(*refusals),
    }


def _infer() -> Document:
    return {
        "summary": "Predict: an input a feature, or all in one; at most 256 rows",
        "parameters": [
            _header("x-sticky-key", "callers with the same key get the same version"),
            _header("inference-header-content-length", "bytes of JSON; binary tensors follow"),
        ],
        "requestBody": {"required": True, **_content(_REQUEST, _BINARY)},
        "responses": {
            "200": {
                "description": "a probability and an id a row",
                **_content(_ANSWER, _BINARY),
            }
        }
        | _refused(*(status for status in _REFUSALS if status != "409")),
    }


def _index() -> Document:
    return {
        "summary": "Every version that a route names, and whether its runtime holds it",
        "requestBody": {"required": False, **_content(_flag("ready"))},
        "responses": {"200": _json("the versions", _VERSIONS)} | _refused("400", "401", "403"),
    }


def _predict() -> Document:
    return {
        "summary": "Predict: rows of named fields, or columns of them; at most 256 rows",
        "parameters": [
            _header("x-sticky-key", "callers with the same key get the same version")
        ],
        "requestBody": {"required": True, **_content(_FIELDS)},
        "responses": {"200": _json("a prediction and its id a row", _PREDICTIONS)}
        | _refused(*(status for status in _REFUSALS if status != "409")),
    }


def _header(name: str, description: str) -> Document:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": description,
    }


def _keyed(operation: Document) -> Document:
    return {**operation, "security": [{"key": []}]}


def _refused(*statuses: str) -> Document:
    return {status: _json(_REFUSALS[status], _ERROR) for status in statuses}


def _json(description: str, schema: Document) -> Document:
    return {"description": description, **_content(schema)}


def _content(schema: Document, more: Document | None = None) -> Document:
    return {"content": {"application/json": {"schema": schema}, **(more or {})}}


def _flag(name: str) -> Document:
    return {"type": "object", "properties": {name: {"type": "boolean"}}}


def _in_path(name: str) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
