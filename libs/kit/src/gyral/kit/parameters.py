"""What the paths and queries of every service may hold; all else is refused before a query."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AwareDatetime, Field

from gyral.contracts.names import ModelName, StreamName, Uuid
from gyral.kit.changes import MAX_WAIT_S

VersionNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]
"""A model's version in a path, within what the stores hold."""
WaitS = Annotated[float, Query(ge=0, le=MAX_WAIT_S)]
"""How long the caller waits for the answer to come true."""

Instant = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9000, 1, 1, tzinfo=UTC)),
]
"""A time that is one in every zone: near the year 9999 drivers overflow."""

Limit = Annotated[int, Query(ge=1, le=1000, description="most rows of a page")]
_AFTER = Query(description="last row of the page before; none: begin with the first")
AfterNumber = Annotated[int, Query(ge=0, lt=2**62, description=_AFTER.description)]
AfterVersion = Annotated[int | None, Query(ge=1, le=2**31 - 1, description=_AFTER.description)]
AfterModel = Annotated[ModelName | None, _AFTER]
AfterStream = Annotated[StreamName | None, _AFTER]
AfterId = Annotated[Uuid | None, _AFTER]
AfterTime = Annotated[Instant | None, _AFTER]
