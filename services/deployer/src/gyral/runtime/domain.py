"""What the runtime holds, in the words of Open Inference's repository extension."""

from dataclasses import dataclass
from enum import StrEnum

from gyral.contracts.names import BlobRef


class State(StrEnum):
    """How far a version is."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Files:
    """The three files that make a version servable."""

    onnx: BlobRef
    manifest: BlobRef
    golden: BlobRef

    @property
    def by_name(self) -> dict[str, BlobRef]:
        """The files under the names that the trial looks for."""
        return {
            "model.onnx": self.onnx,
            "manifest.json": self.manifest,
            "golden.json": self.golden,
        }


@dataclass(frozen=True, slots=True)
class Held:
    """One slot."""

    files: Files
    state: State
    reason: str = ""
    """Why it is not ready."""


class RefusedVersionError(ValueError):
    """The version will not be served; trying again changes nothing."""


class FullError(RuntimeError):
    """There is no room now; when another version is unloaded there will be."""


def admit(held: dict[str, Held], slot: str, files: Files, *, max_models: int) -> bool:
    """Return True when the slot must be loaded, False when it is ready with these very bytes.

    Raises:
        RefusedVersionError: it is ready with other bytes.
        FullError: there is no room.
    """
    known = held.get(slot)
    if known is not None and known.state is State.READY:
        if known.files == files:
            return False
        if known.files.onnx.sha256 != files.onnx.sha256:
            raise RefusedVersionError(
                f"{slot}: expected sha256 {known.files.onnx.sha256}, as loaded; found"
                f" {files.onnx.sha256}. Unload it first: a version's bytes do not change"
            )
    ready = sum(each.state is State.READY for each in held.values())
    if known is None and ready >= max_models:
        raise FullError(
            f"{slot}: expected room for one more version; found {ready}, as many as"
            " RUNTIME_MAX_MODELS allows. Unload one, or raise it"
        )
    return True
