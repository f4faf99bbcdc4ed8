"""The part of docker-compose.yml that the runner reads, checked as it enters."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gyral.local.errors import LocalError


class _Read(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, coerce_numbers_to_str=True
    )


class LocalPart(_Read):
    """`x-local`: how an entry runs as a plain process; interpolated like the rest."""

    model_config = ConfigDict(extra="forbid")

    command: tuple[str, ...] = Field(min_length=1)
    group: str = "services"
    """What `--only GROUP` selects."""
    ports: dict[str, int] = {}
    """Variables that hold its ports, with the number each prefers."""
    jars: tuple[str, ...] = ()
    """Executions of infra/local/pom.xml that it needs."""
    health: dict[str, str] = {}
    """Protocol and target of the probe that says: others may start."""
    live: dict[str, str] = {}
    """The probe that, failing for long, has the process killed and started again."""
    socket: str = ""
    """The variable, of those in `ports`, whose socket is opened here and inherited: requests
    that come while the process restarts wait in it."""
    stop_signal: str = "SIGTERM"
    environment: dict[str, str] = {}
    """What differs from the entry's own environment."""


class Healthcheck(_Read):
    """Compose's timing of a health check; its `test` is Docker's affair."""

    interval: str = "2s"
    timeout: str = "10s"
    start_period: str = "60s"
    retries: int = 6


class Dependency(_Read):
    """What must hold of another entry before this one starts."""

    condition: str = "service_started"


class Entry(_Read):
    """One service of the file."""

    environment: dict[str, str] = {}
    depends_on: dict[str, Dependency] = {}
    restart: str = "no"
    stop_grace_period: str = "10s"
    healthcheck: Healthcheck = Healthcheck()
    local: LocalPart | None = Field(default=None, alias="x-local")


class InstancePart(_Read):
    """`x-instance`: what an instance has of its own besides ports."""

    secrets: tuple[str, ...] = ()
    """Variables that are generated once."""
    files: tuple[str, ...] = ()
    """Secrets that live in files of the instance's `secrets/`, generated once."""
    values: dict[str, str] = {}
    """Variables that follow from ports and folders."""


class Document(_Read):
    """The whole file, as far as the runner is concerned."""

    services: dict[str, Entry]
    instance: InstancePart = Field(default=InstancePart(), alias="x-instance")


def read(path: Path) -> Document:
    """Return the checked document.

    Raises:
        LocalError: the file is missing, is not YAML, or an entry is malformed.
    """
    try:
        return Document.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise LocalError(
            f"{path} cannot be read ({error.strerror}): run from a checkout of Gyral"
        ) from error
    except yaml.YAMLError as error:
        raise LocalError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LocalError(f"{path}: {where} is {first['input']!r}: {first['msg']}") from error
