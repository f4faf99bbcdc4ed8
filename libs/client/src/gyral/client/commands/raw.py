"""Bytes of strangers on a terminal: text when they are text, else hex; never orders to it."""

import codecs
from collections.abc import Iterator

SHOWN_BYTES = 4096
_WIDTH = 16


def plain(text: str) -> str:
    """Return text on one line, what a terminal might obey written out as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def shown(data: bytes, *, most: int = SHOWN_BYTES) -> Iterator[str]:
    """Yield lines that show the first bytes, and a last one that counts the rest."""
    head, rest = data[:most], max(0, len(data) - most)
    try:
        # What the cut went through is no fault of the text.
        text = codecs.getincrementaldecoder("utf-8")("strict").decode(head, final=not rest)
    except UnicodeDecodeError:
        yield from _hex(head)
    else:
        yield plain(text)
    if rest:
        yield f"... and {rest} bytes more: --bytes {len(data)} shows all"


def _hex(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _WIDTH):
        part = data[start : start + _WIDTH]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)  # noqa: PLR2004
        yield f"{start:08x}  {part.hex(' '):<{_WIDTH * 3}} {letters}"
