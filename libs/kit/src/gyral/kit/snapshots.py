"""A projection's last state on disk, so that a service can start while Kafka is away."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

import orjson
from pydantic import ValidationError

from gyral.contracts.events import Delivery, Event
from gyral.kit.telemetry import get_log

E = TypeVar("E", bound=Event)
log = get_log()


class Snapshot(Generic[E]):
    """A file of one JSON line per event, replaced atomically."""

    def __init__(self, path: Path, event_type: type[E]) -> None:
        self._path = path
        self._event_type = event_type

    def save(self, events: Iterable[E]) -> None:
        """Replace the file; a full disk is logged and the old file kept."""
        lines = [event.model_dump_json().encode() + b"\n" for event in events]
        scratch = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)
        except OSError as error:
            log.warning("snapshot.not_saved", path=str(self._path), error=str(error))

    def load(self) -> list[E]:
        """Return the events of the last save; an unreadable file counts as none."""
        try:
            lines = self._path.read_bytes().splitlines()
            events = [self._event_type.model_validate_json(line) for line in lines]
        except FileNotFoundError:
            return []
        except (OSError, ValidationError, orjson.JSONDecodeError) as error:
            log.warning("snapshot.unreadable", path=str(self._path), error=type(error).__name__)
            return []
        unknown = Delivery(event_id="snapshot", correlation_id="snapshot")
        return [event.delivered(unknown) for event in events]
