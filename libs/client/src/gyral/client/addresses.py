"""Where the services are and which key opens them: told by environment or instance."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gyral.client.errors import ClientError

SERVICES = (
    "ingestion",
    "validation",
    "trainer",
    "registry",
    "deployer",
    "gateway",
    "monitor",
)
_START = "start one with `gyral up`, or set GYRAL_HOME"


@dataclass(frozen=True, slots=True)
class Addresses:
    """One platform as a client sees it."""

    urls: Mapping[str, str]
    key: str

    def url(self, service: str) -> str:
        """Return the address of one service.

        Raises:
            ClientError: nothing says where it is.
        """
        try:
            return self.urls[service]
        except KeyError as error:
            raise ClientError(
                f"{service}: expected an address; found neither GYRAL_{service.upper()}_URL "
                f"nor an instance: {_START}"
            ) from error


def gateways(environment: Mapping[str, str] = os.environ) -> Sequence[str]:
    """Return the address of each gateway: GYRAL_GATEWAY_URLS, comma-separated, or the only one.

    Raises:
        ClientError: nothing says where one is.
    """
    listed = environment.get("GYRAL_GATEWAY_URLS", "")
    given = [each.strip().rstrip("/") for each in listed.split(",") if each.strip()]
    return given or [find(environment).url("gateway")]


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the instance meant."""
    return Path(environment.get("GYRAL_HOME") or ".gyral").expanduser()


def variables(folder: Path) -> dict[str, str]:
    """Return what an instance's env file says; if any."""
    try:
        lines = (folder / "instance.env").read_text().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ClientError(
            f"{error.filename}: {error.strerror}: run as the instance's owner"
        ) from error
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def find(environment: Mapping[str, str] = os.environ) -> Addresses:
    """Return addresses and key; GYRAL_<SERVICE>_URL and GYRAL_API_KEY go first.

    Raises:
        ClientError: there is no key.
    """
    folder = home(environment)
    known = variables(folder)
    urls = {}
    for service in SERVICES:
        name = service.upper()
        given = environment.get(f"GYRAL_{name}_URL")
        port = known.get(f"{name}_PORT")
        if given:
            urls[service] = given.rstrip("/")
        elif port:
            urls[service] = f"http://127.0.0.1:{port}"
    return Addresses(urls, environment.get("GYRAL_API_KEY") or _admin_key(folder))


def _admin_key(folder: Path) -> str:
    path = folder / "secrets" / "admin.key"
    try:
        return path.read_text().strip()
    except FileNotFoundError as error:
        raise ClientError(
            f"GYRAL_API_KEY: expected a key; found neither it nor {path}: {_START}"
        ) from error
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}: run as the instance's owner") from error
