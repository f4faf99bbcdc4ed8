"""What validation can be told: how large its batches grow, and what it forgives."""

from typing import Annotated

from pydantic import Field

from gyral.kit.personal import PersonalSecret
from gyral.kit.settings import CommonSettings


class Settings(CommonSettings):
    """The common settings and validation's own knobs."""

    personal_secret: PersonalSecret
    """What pseudonyms of personal fields follow from; ingestion has the same one."""
    validation_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 30_000
    """Most records judged and committed at once."""
    validation_batch_wait_s: Annotated[float, Field(ge=0, le=60)] = 0.5
    """Longest time a record waits for its batch to fill; a marker ends the wait."""
    validation_predictions_wait_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    """The same for logged predictions."""
    validation_future_s: Annotated[float, Field(ge=0)] = 300.0
    """How far beyond this machine's clock an event time may lie."""
    validation_compact_every: Annotated[int, Field(ge=2, le=10_000)] = 20
    """Commits of a table after which its small files are merged."""
    validation_idle_every_s: Annotated[float, Field(gt=0)] = 10.0
    """How often idle partitions of streams on the wall clock are looked for."""
    validation_retire_every_s: Annotated[float, Field(gt=0)] = 600.0
    """How often rows past their stream's retention are looked for."""
    validation_vacuum_every_s: Annotated[float, Field(gt=0)] = 3600.0
    """How often files that no version needs any more are looked for."""
    validation_vacuum_after_h: Annotated[float, Field(ge=24)] = 336.0
    """Hours for which a table's version stays readable once it was replaced, pinned or not."""
    validation_remember_h: Annotated[float, Field(ge=0)] = 24.0
    """Hours for which an accepted row is remembered at least, however far event time goes."""
    validation_parked_days: Annotated[float, Field(gt=0)] = 30.0
    """Days for which refused rows of streams with personal fields are kept."""
    validation_forget_every_s: Annotated[float, Field(gt=0)] = 600.0
    """How often remembered rows that no row can meet any more are looked for."""
    validation_crash_at: str | None = None
    """For tests: the named point at which the process kills itself."""
