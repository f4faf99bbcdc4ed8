"""The settings all services share; read once, in `__main__`, from the environment."""

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, PostgresDsn, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ProcessSettings(BaseSettings):
    """What every process is told about its surroundings; its own knobs bear its name.

    A knob NAME may instead come from the file that NAME_FILE points to.
    """

    model_config = SettingsConfigDict(
        frozen=True, case_sensitive=False, extra="ignore", hide_input_in_errors=True
    )

    kafka_brokers: str
    """Comma-separated host:port."""

    s3_endpoint: str = "http://127.0.0.1:9000"
    s3_access_key: str = ""
    s3_secret_key: SecretStr = SecretStr("")
    s3_bucket: str = "gyral"

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    http_listen_fd: Annotated[int, Field(ge=3)] | None = None
    """Listening socket that the process inherits: what comes while it restarts waits there."""

    state_dir: Path = Path("/var/lib/gyral")
    """Folder for what must survive the process and is not in Postgres; one process a folder."""
    instance_id: str | None = None
    """Name of this process in its groups; None: `<service>-0`. Replicas need distinct ones."""
    otel_exporter_otlp_traces_endpoint: str | None = None
    """None: traces are not exported."""
    log_level: str = "info"

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, values: dict[str, object]) -> dict[str, object]:
        for name in cls.model_fields:
            path = os.environ.get(f"{name.upper()}_FILE")
            if path and name not in values:
                values = {**values, name: Path(path).read_text(encoding="utf-8").strip()}
        return values

    def member(self, service: str) -> str:
        """Return the static name in consumer groups by which a restart is back at once."""
        return self.instance_id or f"{service}-0"

    def with_values(self, **values: object) -> Self:
        """Return a copy with other values, validated; for tests and tools."""
        return type(self).model_validate({**self.model_dump(), **values})


class CommonSettings(ProcessSettings):
    """What a service with a database is told: all but the gateway and the runtime."""

    database: PostgresDsn
    """The service's own role and schema: postgresql://role:secret@host:port/database."""
    database_connections: Annotated[int, Field(ge=2, le=100)] = 8

    @property
    def dsn(self) -> str:
        """The database address as a driver takes it."""
        return str(self.database)
