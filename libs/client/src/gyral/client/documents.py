"""Declared documents as people keep them: YAML files, checked before they are sent."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from gyral.client.errors import ClientError
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec

Spec = StreamSpec | ModelSpec
_KINDS: dict[str, type[Spec]] = {"Stream": StreamSpec, "Model": ModelSpec}


def read(path: Path) -> list[Spec]:
    """Return the documents of a YAML file, or of all of a folder's, streams first.

    Raises:
        ClientError: a file cannot be read, or a document is not one of ours.
    """
    if not path.exists():
        raise ClientError(f"{path}: expected a YAML file or a folder of them; found nothing")
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
    if not files:
        raise ClientError(f"{path}: expected files that end in .yaml; found none")
    specs = [spec for file in files for spec in _of_file(file)]
    return sorted(specs, key=lambda spec: isinstance(spec, ModelSpec))


def json_of(spec: Spec) -> bytes:
    """Return a document as the registry takes it."""
    return spec.model_dump_json(exclude_none=True).encode()


def _of_file(file: Path) -> Sequence[Spec]:
    try:
        documents = [each for each in yaml.safe_load_all(file.read_text()) if each is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClientError(f"{file}: expected YAML; found {_one_line(error)}") from error
    return [_parse(file, document) for document in documents]


def _parse(file: Path, document: object) -> Spec:
    kind = document.get("kind") if isinstance(document, dict) else None
    model = _KINDS.get(str(kind))
    if model is None:
        raise ClientError(f"{file}: kind: expected Stream or Model; found {str(kind)[:40]!r}")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise ClientError(
            f"{file}: {field}: {first['msg']}; found {str(first['input'])[:80]!r}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
