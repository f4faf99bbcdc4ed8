"""Reads what a run left in the object store, digest-checked, for the verdict to judge."""

from dataclasses import dataclass

from pydantic import ValidationError

from gyral.contracts.evaluation import EvaluationReport
from gyral.contracts.names import BlobRef
from gyral.contracts.training import Artifacts
from gyral.kit.blobs import Blobs
from gyral.kit.tx import PermanentError
from gyral.modelling.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Evidence:
    """The blobs a verdict rests on."""

    blobs: Blobs

    async def evaluation(self, ref: BlobRef) -> EvaluationReport:
        """Return the run's evaluation.

        Raises:
            PermanentError: the blob is no evaluation report.
        """
        raw = await self.blobs.get_bytes(ref)
        try:
            return EvaluationReport.model_validate_json(raw, extra="ignore")
        except ValidationError as error:
            raise PermanentError(
                f"{ref.key}: expected an evaluation report; found {error}"
            ) from error

    async def input_names(self, artifacts: Artifacts) -> tuple[str, ...]:
        """Return the inputs the run's manifest declares, in order.

        Raises:
            PermanentError: the blob is no manifest, or it speaks of another model file.
        """
        raw = await self.blobs.get_bytes(artifacts.manifest)
        try:
            manifest = Manifest.from_json(raw)
        except ValueError as error:
            raise PermanentError(f"{artifacts.manifest.key}: {error}") from error
        if manifest.onnx.sha256 != artifacts.onnx.sha256:
            raise PermanentError(
                f"{artifacts.manifest.key}: expected onnx.sha256 {artifacts.onnx.sha256}; "
                f"found {manifest.onnx.sha256}"
            )
        return tuple(column.name for column in manifest.inputs)
