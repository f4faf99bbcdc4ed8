"""The monitor's knobs."""

from typing import Annotated

from pydantic import Field

from gyral.kit.settings import CommonSettings


class Settings(CommonSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    monitor_max_wait_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    """How long rows may wait for others before they are written; a marker never waits."""
    monitor_wall_clock_every_s: Annotated[float, Field(gt=0, le=3600)] = 10
    """How often the time of models on the wall clock advances."""
    monitor_wall_clock_grace_s: Annotated[float, Field(ge=0, le=3600)] = 30
    """How far behind the wall clock their time stays, beside the declared lateness."""
    monitor_label_patience_days: Annotated[int, Field(ge=1, le=3650)] = 90
    """Event time for which labels are kept for models that never closed a block."""
