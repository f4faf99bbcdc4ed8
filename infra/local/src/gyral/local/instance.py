"""One instance of Gyral on this machine: its folders, ports and secrets, chosen once."""

import hashlib
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from gyral.local import document, ports
from gyral.local.document import Document
from gyral.local.errors import LocalError
from gyral.local.interpolation import interpolate

POM = Path(__file__).resolve().parents[3] / "pom.xml"
"""What Maven fetches."""
_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700
_LONGEST_SOCKET_FOLDER = 80
"""A unix socket's path has at most 107 bytes; this leaves room for its name."""
_FOLLOWS = "# What follows is derived from the lines above at each start."


class PortChoice(StrEnum):
    """How a new instance picks its ports."""

    PREFERRED = "preferred"
    ANY = "any"


class Instance:
    """Everything that belongs to one GYRAL_HOME; `prepare` makes what is missing, no more."""

    def __init__(
        self,
        home: Path | str,
        *,
        compose: Path | None = None,
        port_choice: PortChoice = PortChoice.PREFERRED,
    ) -> None:
        self.home = Path(home).expanduser().resolve()
        self.compose = (compose or _compose_file()).resolve()
        self._port_choice = port_choice

    @property
    def env_file(self) -> Path:
        """The file of variables that docker-compose.yml is filled in with."""
        return self.home / "instance.env"

    @property
    def logs(self) -> Path:
        """The folder with a log of each process."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """The folder of process ids, locks and sockets."""
        return self.home / "run"

    @property
    def secrets(self) -> Path:
        """The folder of secrets that are files."""
        return self.home / "secrets"

    @property
    def id(self) -> str:
        """What tells this instance's processes from another's."""
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:16]

    def log(self, name: str) -> Path:
        """Return the log of one process."""
        return self.logs / f"{name}.log"

    def document(self) -> Document:
        """Return docker-compose.yml as it is now."""
        return document.read(self.compose)

    def prepare(self) -> Mapping[str, str]:
        """Make folders, secrets, ports and instance.env where missing; return the variables.

        Raises:
            LocalError: the folder cannot be written, or docker-compose.yml cannot be read.
        """
        try:
            for folder in (self.home, self.home / "data", self.logs, self.run, self.secrets):
                folder.mkdir(parents=True, exist_ok=True)
            self.home.chmod(_PRIVATE_FOLDER)
            chosen = self._chosen()
            values = self._derived(chosen)
            self._write_secret_files()
            self._write_env(chosen, values)
        except OSError as error:
            raise LocalError(
                f"{self.home} cannot be written ({error.strerror}): free some space there, "
                "or set GYRAL_HOME to another folder"
            ) from error
        return chosen | values

    def env(self) -> Mapping[str, str]:
        """Return the variables of a prepared instance.

        Raises:
            LocalError: it was never started.
        """
        if not self.env_file.exists():
            raise LocalError(f"{self.home} is no instance yet: start it with `make up`")
        return self._derived(self._read()) | self._read()

    def _read(self) -> dict[str, str]:
        if not self.env_file.exists():
            return {}
        lines = self.env_file.read_text().partition(_FOLLOWS)[0].splitlines()
        pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
        return {name: value for name, _, value in pairs}

    def _chosen(self) -> dict[str, str]:
        """Return ports and secrets: those of the file, and new ones for what it lacks."""
        chosen = self._read()
        description = self.document()
        wanted = {
            variable: number
            for entry in description.services.values()
            if entry.local is not None
            for variable, number in entry.local.ports.items()
            if variable not in chosen
        }
        taken = {int(value) for name, value in chosen.items() if name.endswith("_PORT")}
        prefer = self._port_choice is PortChoice.PREFERRED
        chosen |= {
            name: str(port) for name, port in ports.choose(wanted, taken, prefer=prefer).items()
        }
        for name in description.instance.secrets:
            chosen.setdefault(name, secrets.token_urlsafe(24))
        return chosen

    def _derived(self, chosen: Mapping[str, str]) -> dict[str, str]:
        values = {
            "GYRAL_HOME": str(self.home),
            "GYRAL_ROOT": str(self.compose.parent),
            "GYRAL_JARS": str(jar_folder()),
            "PYTHON": sys.executable,
            "RUN_DIR": str(self._socket_folder()),
        }
        for name, text in self.document().instance.values.items():
            values[name] = interpolate(text, {**values, **chosen})
        return values

    def _socket_folder(self) -> Path:
        if len(str(self.run)) <= _LONGEST_SOCKET_FOLDER:
            return self.run
        folder = Path(tempfile.gettempdir()) / f"gyral-{os.getuid()}-{self.id}"
        folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise LocalError(
                f"{folder} belongs to another user: set GYRAL_HOME to a shorter path"
            )
        return folder

    def _write_secret_files(self) -> None:
        self.secrets.chmod(_PRIVATE_FOLDER)
        for name in self.document().instance.files:
            path = self.secrets / name
            if not path.exists():
                write_private(path, secrets.token_urlsafe(32) + "\n")

    def _write_env(self, chosen: Mapping[str, str], derived: Mapping[str, str]) -> None:
        head = "# Ports and secrets: chosen once, yours to change while the instance is down."
        text = "\n".join(
            [head, *(f"{k}={v}" for k, v in chosen.items()), "", _FOLLOWS]
            + [f"{k}={v}" for k, v in derived.items()]
        )
        if not self.env_file.exists() or self.env_file.read_text() != text + "\n":
            write_private(self.env_file, text + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace the file at once by one that only its owner can read."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE_FILE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def cache() -> Path:
    """Return the folder that all instances of this user share."""
    return Path(os.environ.get("GYRAL_CACHE") or Path.home() / ".cache" / "gyral").expanduser()


def jar_folder() -> Path:
    """Return where the jars that this very pom.xml names are kept."""
    return cache() / "jars" / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]


def _compose_file() -> Path:
    given = os.environ.get("GYRAL_COMPOSE_FILE")
    if given:
        return Path(given)
    places = (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents)
    for folder in places:
        if (folder / "docker-compose.yml").exists() and (folder / "infra" / "local").is_dir():
            return folder / "docker-compose.yml"
    raise LocalError("no docker-compose.yml of Gyral above this folder: run from a checkout")
