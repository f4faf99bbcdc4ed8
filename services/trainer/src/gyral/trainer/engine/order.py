"""What the trainer tells its training process, and what that process says back."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from gyral.contracts.names import ModelName, Sha256, StreamName, Uuid, Version
from gyral.contracts.specs.model import ModelBody
from gyral.contracts.specs.stream import StreamBody

ONNX, WEIGHTS, CODE = "model.onnx", "model.safetensors", "code.zip"
REPORTS = ("manifest.json", "profile.json", "golden.json", "evaluation.json")
ARTIFACTS = (ONNX, *REPORTS)
"""Files a training leaves in its output folder, where its model is served as ONNX."""
TORCH_ARTIFACTS = (WEIGHTS, CODE, *REPORTS)
"""The same, where it is served as torch."""

TABLE_OPTIONS = "TRAINER_TABLE_OPTIONS"
"""Environment variable with the JSON of what the tables' store needs, credentials included."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Table(_Message):
    """One stream's table, pinned; credentials of its store are in the environment."""

    stream: StreamName
    version: int = Field(ge=0)
    uri: str
    spec: StreamBody


class ChampionFiles(_Message):
    """The model that serves today, as local files whose digests were checked."""

    version: Version
    model: Path
    """ONNX, or weights."""
    manifest: Path
    code: Path | None = None
    """Sources of the weights' network."""


class Order(_Message):
    """Everything one training needs; the same order gives the same model."""

    run_id: Uuid
    model: ModelName
    spec: ModelBody
    as_of: AwareDatetime
    features: Table
    labels: Table
    champion: ChampionFiles | None
    output: Path
    memory_bytes: int | None = None
    """Limit of the process's address space; None: unlimited."""


class Progress(_Message):
    """How far the training is."""

    kind: Literal["progress"] = "progress"
    stage: str = Field(max_length=100)
    share: float = Field(ge=0, le=1)


class Done(_Message):
    """The artifacts lie in the output folder."""

    kind: Literal["done"] = "done"
    trained_until: datetime
    code_sha256: Sha256
    train_rows: int = Field(ge=1)
    holdout_rows: int = Field(ge=0)
    metrics: dict[str, float | None]


class Refused(_Message):
    """No repetition helps: the data or the spec do not allow this training."""

    kind: Literal["refused"] = "refused"
    reason: str = Field(min_length=1)


Line = Annotated[Progress | Done | Refused, Field(discriminator="kind")]
LINE: TypeAdapter[Progress | Done | Refused] = TypeAdapter(Line)
"""Reads one line of the process's standard output."""


class TrainingRefusedError(ValueError):
    """The data or the spec do not allow this training, however often it is tried."""
