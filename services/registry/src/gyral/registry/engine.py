"""Reads what a run left in the object store, digest-checked, for the verdict to judge."""

from dataclasses import dataclass

from pydantic import ValidationError

from gyral.contracts.evaluation import EvaluationReport
from gyral.contracts.names import BlobRef
from gyral.contracts.training import Artifacts
from gyral.kit.blobs import Blobs, CorruptBlob
from gyral.modelling.manifest import Manifest


class UnreadableEvidenceError(ValueError):
    """What a verdict would rest on is gone, damaged or something else; waiting changes nothing.

    A store that is away is another matter: its errors pass through, and are waited for.
    """


@dataclass(frozen=True, slots=True)
class Evidence:
    """The blobs a verdict rests on."""

    blobs: Blobs

    async def evaluation(self, ref: BlobRef) -> EvaluationReport:
        """Return the run's evaluation.

        Raises:
            UnreadableEvidenceError: there is no such blob, or it is no evaluation report.
        """
        raw = await self._bytes(ref)
        try:
            return EvaluationReport.model_validate_json(raw, extra="ignore")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise UnreadableEvidenceError(
                f"{ref.key}: expected an evaluation report; found {place}: {first['msg']}"
            ) from error

    async def input_names(self, artifacts: Artifacts) -> tuple[str, ...]:
        """Return the inputs the run's manifest declares, in order.

        Raises:
            UnreadableEvidenceError: there is no such blob, it is no manifest, or it speaks of
                another model file.
        """
        raw = await self._bytes(artifacts.manifest)
        try:
            manifest = Manifest.from_json(raw)
        except ValueError as error:
            raise UnreadableEvidenceError(f"{artifacts.manifest.key}: {error}") from error
        code = artifacts.code
        for field, expected, found in (
            ("the model's sha256", artifacts.onnx.sha256, manifest.model_file.sha256),
            ("code_sha256", code and code.sha256, manifest.code_sha256),
        ):
            if found != expected:
                raise UnreadableEvidenceError(
                    f"{artifacts.manifest.key}: expected {field} {expected}, as in the run's "
                    f"artifacts; found {found}"
                )
        return tuple(column.name for column in manifest.inputs)

    async def _bytes(self, ref: BlobRef) -> bytes:
        try:
            return await self.blobs.get_bytes(ref)
        except (CorruptBlob, FileNotFoundError) as error:
            raise UnreadableEvidenceError(str(error)) from error
