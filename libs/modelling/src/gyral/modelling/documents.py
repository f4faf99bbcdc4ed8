"""Documents that travel beside a model: canonical JSON, refused when anything is off."""

from typing import TypeVar

import msgspec

Document = TypeVar("Document", bound=msgspec.Struct)


class DocumentError(ValueError):
    """A document is not what its schema says; the message names field, expected and found."""


def canonical_json(document: msgspec.Struct) -> bytes:
    """Write a document with sorted keys and no spaces: equal documents give equal bytes."""
    return msgspec.json.encode(document, order="sorted")


def parse_json(text: bytes, document: type[Document], name: str) -> Document:
    """Read a document called `name`.

    Raises:
        DocumentError: the bytes are no JSON, a field is unknown, absent or of another type, or
            two fields contradict each other.
    """
    try:
        return msgspec.json.decode(text, type=document)
    except msgspec.DecodeError as error:
        raise DocumentError(f"{name}: {error}") from error
