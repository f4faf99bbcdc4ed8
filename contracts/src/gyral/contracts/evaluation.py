"""What a run measured and what its model must reproduce; a verdict rests on this alone."""

from pydantic import AwareDatetime, Field

from gyral.contracts.events import Contract
from gyral.contracts.names import FieldName, ModelName, Uuid, Version

Cell = float | int | bool | str | None
"""A raw value of a feature, as a request for a prediction carries it."""


class Scores(Contract):
    """How one version did over the whole window."""

    log_loss: float | None
    """Mean, in nats; None where the version gave NaN."""
    brier: float | None
    ece: float | None
    """Expected calibration error over equal-mass bins."""
    auc: float | None
    """None when the window holds one class only."""
    mean_probability: float | None
    lowest: float | None
    highest: float | None
    nan_rows: int = Field(ge=0)
    outside_rows: int = Field(ge=0)
    """Rows with a probability outside [0, 1]."""
    constant: bool
    """Every row got the same probability."""


class BlockLosses(Contract):
    """Sums over the window's rows of one block of event time, the same for both versions."""

    block: int
    """Whole block lengths since 1970-01-01 UTC."""
    rows: int = Field(ge=1)
    positives: int = Field(ge=0)
    challenger_log_loss: float | None
    champion_log_loss: float | None = None
    challenger_brier: float | None
    champion_brier: float | None = None
    baseline_log_loss: float


class SliceLosses(Contract):
    """Sums over the rows of one block in which a field has one value."""

    block: int
    rows: int = Field(ge=1)
    challenger_log_loss: float | None
    champion_log_loss: float | None = None


class Slice(Contract):
    """Rows of the window in which a field has one value."""

    field: FieldName
    value: str | None
    """As text; None for the rows where it is missing."""
    rows: int = Field(ge=1)
    blocks: tuple[SliceLosses, ...] = Field(min_length=1)


class Parity(Contract):
    """How far the shipped model is from the one that was fitted, on the window's rows."""

    rows: int = Field(ge=1)
    largest: float = Field(ge=0)
    mean: float = Field(ge=0)
    share_within: float = Field(ge=0, le=1)
    tolerance: float = Field(gt=0)


class Latency(Contract):
    """Median time of a call over the same batches, both versions in turn."""

    batch_rows: int = Field(ge=1)
    challenger_us: float = Field(gt=0)
    champion_us: float | None = None

    @property
    def ratio(self) -> float | None:
        """Challenger's time over champion's; None without a champion."""
        return None if self.champion_us is None else self.challenger_us / self.champion_us


class EvaluationReport(Contract):
    """Challenger and champion on the same rows, block by block: `evaluation.json` of a run."""

    model: ModelName
    run_id: Uuid
    as_of: AwareDatetime
    trained_until: AwareDatetime
    """No row or label known later was trained on."""
    champion_version: Version | None = None
    champion_trained_until: AwareDatetime | None = None
    champion_error: str | None = Field(default=None, max_length=500)
    """Why the champion could not be scored on these rows; then its numbers are None."""
    window_start: AwareDatetime
    window_end: AwareDatetime
    """The window is half open: rows with window_start <= event time < window_end."""
    block_us: int = Field(gt=0)
    rows: int = Field(ge=0)
    """Labelled rows in the window."""
    unlabelled_rows: int = Field(ge=0)
    """Rows in the window that never got a label."""
    base_rate: float | None
    """Share of positives in the window."""
    training_base_rate: float = Field(ge=0, le=1)
    baseline_log_loss: float | None
    """Mean log-loss of always answering the training base rate."""
    challenger: Scores
    champion: Scores | None = None
    blocks: tuple[BlockLosses, ...]
    """In order of time; blocks without labelled rows are absent."""
    slices: tuple[Slice, ...] = ()
    """Only of the fields named in gates.slices, and only of 500 rows or more."""
    score_psi: float | None = None
    """Population stability between champion's and challenger's probabilities."""
    parity: Parity
    latency: Latency
    notes: tuple[str, ...] = ()
    """What was out of the ordinary, such as a window cut short by the champion's training."""


class GoldenRows(Contract):
    """Raw rows with the probabilities this model must give: `golden.json` of a run."""

    columns: dict[FieldName, tuple[Cell, ...]]
    """One column per input, all of one length."""
    probabilities: tuple[float, ...] = Field(min_length=1)
    """P(positive) of each row, as the shipped model gave it."""
    tolerance: float = Field(default=1e-6, gt=0)
    """Largest difference that counts as the same."""
