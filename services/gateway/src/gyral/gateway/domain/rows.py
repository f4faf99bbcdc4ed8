"""The rows of a request as they go to a version, and how many may go at once."""

from typing import TypeAlias

MAX_ROWS = 256
"""Most rows of a request, and of a batch of requests."""

Column: TypeAlias = "bytes | list[str | bool | None]"
"""One feature's cells: numbers as little-endian float64, missing as NaN; all else as it is."""

Columns: TypeAlias = "list[Column] | bytes"
"""All features: column by column, or all numbers at once, row after row."""
