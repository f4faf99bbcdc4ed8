"""What outlives the runtime's process: files named by digest, and which slots they make."""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from gyral.contracts.names import BlobRef
from gyral.runtime.domain import Files


class DamagedCacheError(ValueError):
    """A cached file is not what its name says."""


class UnreadableCacheError(OSError):
    """A cached file cannot be read now: it may be sound, and is to be asked for again."""


class _Slot(msgspec.Struct, frozen=True):
    onnx: dict[str, str | int]
    """Of the model, whatever its format: what older runtimes wrote is read."""
    manifest: dict[str, str | int]
    golden: dict[str, str | int]
    code: dict[str, str | int] | None = None

    @classmethod
    def of(cls, files: Files) -> Self:
        return cls(
            onnx=files.model.model_dump(),
            manifest=files.manifest.model_dump(),
            golden=files.golden.model_dump(),
            code=None if files.code is None else files.code.model_dump(),
        )

    @property
    def files(self) -> Files:
        return Files(
            BlobRef.model_validate(self.onnx),
            BlobRef.model_validate(self.manifest),
            BlobRef.model_validate(self.golden),
            None if self.code is None else BlobRef.model_validate(self.code),
        )


class Cache:
    """A folder of files, each under its sha256, and one list of loaded slots."""

    def __init__(self, folder: Path) -> None:
        self._files = folder / "files"
        self._list = folder / "slots.json"
        self._files.mkdir(parents=True, exist_ok=True)

    def path(self, ref: BlobRef) -> Path:
        """Return where a file lies, or will lie."""
        return self._files / ref.sha256

    def read(self, ref: BlobRef) -> bytes:
        """Return a file's bytes.

        Raises:
            DamagedCacheError: it is absent, has a second name on the disk, or another digest.
            UnreadableCacheError: the system does not let it be read now.
        """
        path = self.path(ref)
        try:
            with path.open("rb") as file:
                # A second hard link would let bytes change under a name that was checked.
                links = os.fstat(file.fileno()).st_nlink
                data = file.read()
        except FileNotFoundError as error:
            raise DamagedCacheError(f"{ref.key}: expected a cached file; found none") from error
        except OSError as error:
            raise UnreadableCacheError(
                f"{ref.key}: expected to read the cached file; found {error.strerror}"
            ) from error
        if links != 1:
            raise DamagedCacheError(
                f"{ref.key}: expected one link to the cached file; found {links}"
            )
        found = hashlib.sha256(data).hexdigest()
        if found != ref.sha256:
            raise DamagedCacheError(f"{ref.key}: expected sha256 {ref.sha256}; found {found}")
        return data

    def has(self, ref: BlobRef) -> bool:
        """True when the file is there and whole; raises UnreadableCacheError as `read` does."""
        with suppress(DamagedCacheError):
            self.read(ref)
            return True
        self.path(ref).unlink(missing_ok=True)
        return False

    def slots(self) -> dict[str, Files]:
        """Return what was loaded when the list was last kept."""
        try:
            kept = msgspec.json.decode(self._list.read_bytes(), type=dict[str, _Slot])
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            raise DamagedCacheError(
                f"{self._list.name}: {error}; remove it to start empty"
            ) from error
        return {name: slot.files for name, slot in kept.items()}

    def keep(self, slots: Mapping[str, Files]) -> None:
        """Replace the list, whole or not at all, and forget files that no slot needs."""
        kept = {name: _Slot.of(files) for name, files in slots.items()}
        scratch = self._list.with_suffix(".new")
        with scratch.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._list)
        needed = {ref.sha256 for files in slots.values() for ref in files.by_name.values()}
        for path in self._files.iterdir():
            if path.name not in needed:
                path.unlink(missing_ok=True)
