"""Pins on disk: each a file of its own, there for certain before it holds."""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gyral.contracts.deployment import RoutePinned
from gyral.kit.telemetry import get_log

log = get_log()


@dataclass(frozen=True, slots=True)
class PinFiles:
    """A folder of pins."""

    folder: Path

    def keep(self, pinned: RoutePinned) -> None:
        """Return once the pin survives the machine.

        Raises:
            OSError: the disk is full or broken; no half-written pin is left under its name.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        scratch = self._path(pinned).with_suffix(".new")
        with scratch.open("wb") as file:
            file.write(pinned.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path(pinned))
        self._settle()

    def forget(self, pinned: RoutePinned) -> None:
        """Remove a pin; one that is gone is no error."""
        self._path(pinned).unlink(missing_ok=True)
        self._settle()

    def load(self) -> list[RoutePinned]:
        """Return the pins that are kept, the earliest epoch first.

        A file that is no pin, or that the disk does not give, is left where it is, and said so.
        """
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(RoutePinned.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError) as error:
                log.error(  # noqa: TRY400 - no stack
                    "pin.unreadable", path=str(path), error=type(error).__name__
                )
        return sorted(found, key=lambda each: each.route.epoch)

    def _path(self, pinned: RoutePinned) -> Path:
        return self.folder / f"{pinned.key}@{pinned.pin_id}.json"

    def _settle(self) -> None:
        """Have the folder itself survive: a name lives in it."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
