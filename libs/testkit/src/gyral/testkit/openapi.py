"""Writes contracts/openapi: what each service answers over HTTP, taken from its application."""

import asyncio
import importlib
import inspect
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings

from gyral.kit.service import Service
from gyral.testkit.inference_protocol import inference_paths

ROOT = Path(__file__).resolve().parents[5]
SERVICES = (
    "ingestion",
    "validation",
    "trainer",
    "registry",
    "deployer",
    "gateway",
    "monitor",
    "runtime",
)
Document = dict[str, object]
_READ = re.compile(r"read_model\(\s*\w+,\s*(\w+)")
_PUBLIC = ("/health/live", "/health/ready", "/metrics")
_NOWHERE: Mapping[str, object] = {
    "kafka_brokers": "127.0.0.1:1",
    "database": "postgresql://nobody@127.0.0.1:1/none",
    "runtime_url": "http://127.0.0.1:1",
    "deployer_backend": "process",
    "deployer_sockets": "/nowhere",
    "service_key": SecretStr("none"),
    "registry_admin_key": "none",
    "s3_access_key": "none",
    "s3_secret_key": SecretStr("none"),
    "personal_secret": SecretStr("none" * 8),
}
"""Addresses that lead nowhere: an application is assembled and never started."""


def documents(scratch: Path) -> Iterator[tuple[str, str]]:
    """Yield (service, OpenAPI document as it is committed).

    Args:
        scratch: an empty folder, for services that keep files.
    """
    for name in SERVICES:
        yield name, as_text(document(name, scratch / name))


def document(name: str, state: Path) -> Document:
    """Return the OpenAPI document of one service."""
    state.mkdir(parents=True, exist_ok=True)
    # Pools and clients are made within a loop, and let go of with it.
    api = asyncio.run(assembled(name, state)).api
    rest = api if isinstance(api, FastAPI) else getattr(api, "rest", None)
    if not isinstance(rest, FastAPI):
        raise TypeError(f"{name}: expected an application with a FastAPI part; found {api!r}")
    made: Document = rest.openapi()
    paths = made["paths"]
    if not isinstance(paths, dict):
        raise TypeError(f"{name}: expected paths; found {paths!r}")
    if rest is not api:
        paths |= inference_paths()
    schemas = _describe_bodies(rest, paths)
    made["components"] = _components(made.get("components"), schemas)
    made["security"] = [{"key": []}]
    for path in _PUBLIC:
        for operation in paths.get(path, {}).values():
            operation["security"] = []
    return made


def as_text(made: Document) -> str:
    """Return a document as it is committed."""
    return json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def settings_of(service: str) -> type[BaseSettings]:
    """Return the class that holds a service's knobs."""
    found: type[BaseSettings] = importlib.import_module(f"gyral.{service}.settings").Settings
    return found


async def assembled(name: str, state: Path, known: Mapping[str, object] = _NOWHERE) -> Service:
    """Return a service as its process would make it, not started.

    Args:
        name: of the service.
        state: a folder of its own.
        known: values of settings, by their names; those it does not have are left out.
    """
    settings_type = settings_of(name)
    sockets = {"runtime_socket": state / "socket", "runtime_listen": f"unix:{state}/socket"}
    values = {
        field: value
        for field, value in {**_NOWHERE, **sockets, **known}.items()
        if field in settings_type.model_fields
    }
    settings = settings_type.model_validate({**values, "state_dir": state})
    service: Service = importlib.import_module(f"gyral.{name}.app").build(settings)
    return service


def _describe_bodies(api: FastAPI, paths: Mapping[str, Document]) -> Document:
    """Add the bodies that routes read by themselves, within limits; return their schemas.

    A route that read its body as a parameter would read it without limits, so FastAPI does
    not know of it; the model stands in the call of `read_model`.
    """
    schemas: Document = {}
    for context in iter_route_contexts(api.routes):
        route = context.original_route
        if not isinstance(route, APIRoute) or context.path_format is None:
            continue
        found = _READ.search(inspect.getsource(route.endpoint))
        model = route.endpoint.__globals__.get(found[1]) if found else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
        reference = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
        body = {"required": True, "content": {"application/json": reference}}
        for method in route.methods or ():
            operation = paths[context.path_format][method.lower()]
            if isinstance(operation, dict):
                operation["requestBody"] = body
    return schemas


def _components(found: object, schemas: Document) -> Document:
    scheme = {"type": "http", "scheme": "bearer", "description": "an API key of the registry"}
    known = found if isinstance(found, dict) else {}
    return {
        **known,
        "schemas": {**known.get("schemas", {}), **schemas},
        "securitySchemes": {"key": scheme},
    }


def main() -> None:
    """Write every document into the checkout."""
    folder = ROOT / "contracts" / "openapi"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in documents(Path(scratch)):
            (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
