"""What the runtime holds, in the words of Open Inference's repository extension."""

from dataclasses import dataclass
from enum import StrEnum

from gyral.contracts.names import BlobRef


class State(StrEnum):
    """How far a version is."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


class Flavour(StrEnum):
    """Which formats a runtime serves."""

    ONNX = "onnx"
    TORCH = "torch"
    """And ONNX: a model's versions may differ in it."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files that make a version servable."""

    model: BlobRef
    """One ONNX file; with `code`, weights."""
    manifest: BlobRef
    golden: BlobRef
    code: BlobRef | None = None
    """Sources of the network that torch builds; None: the version is ONNX."""

    @property
    def by_name(self) -> dict[str, BlobRef]:
        """The files under the names that the trial looks for."""
        others = {"manifest.json": self.manifest, "golden.json": self.golden}
        if self.code is None:
            return {"model.onnx": self.model, **others}
        return {"model.safetensors": self.model, "code.zip": self.code, **others}


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
        if known.files.model.sha256 != files.model.sha256:
            raise RefusedVersionError(
                f"{slot}: expected sha256 {known.files.model.sha256}, as loaded; found"
                f" {files.model.sha256}. Unload it first: a version's bytes do not change"
            )
    ready = sum(each.state is State.READY for each in held.values())
    if known is None and ready >= max_models:
        raise FullError(
            f"{slot}: expected room for one more version; found {ready}, as many as"
            " RUNTIME_MAX_MODELS allows. Unload one, or raise it"
        )
    return True


def check_format(slot: str, files: Files, flavour: Flavour) -> None:
    """Refuse what this runtime does not serve, before anything of it is fetched or read.

    Raises:
        RefusedVersionError: it is torch, and this runtime serves ONNX alone.
    """
    if files.code is not None and flavour is Flavour.ONNX:
        raise RefusedVersionError(
            f"{slot}: expected ONNX, which is all that this runtime serves; found a version"
            " served as torch. Declare `serving.runtime: own` for its model: its code runs in"
            " a runtime of its own, started with RUNTIME_FLAVOUR=torch"
        )
