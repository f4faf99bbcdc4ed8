"""Checks before anything starts what would otherwise fail in a log file."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from gyral.local import jars, ports
from gyral.local.compose import Service
from gyral.local.errors import LocalError
from gyral.local.instance import Instance

_LEAST_FREE_MIB = 1024


def check(
    instance: Instance, services: Sequence[Service], progress: Callable[[str], None]
) -> None:
    """Return when the services can start: Java, jars, room and ports are there.

    Raises:
        LocalError: one of them is not; the message says what to do.
    """
    _room(instance.home)
    components = {jar for service in services for jar in service.jars}
    if components:
        jars.require_java()
        for name in jars.missing(components):
            progress(f"fetching {name} with Maven (first start only)")
            jars.fetch([name])
    for service in services:
        for variable, port in service.ports.items():
            if not ports.free(port):
                raise LocalError(
                    f"port {port} of {service.name} is taken: stop what listens there, "
                    f"or change {variable} in {instance.env_file}"
                )


def last_line(log: Path) -> str:
    """Return the last line of a log, shortened; what a process said before it ended."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return "no log"
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:200] if said else "nothing was said"


def _room(folder: Path) -> None:
    least_mib = int(os.environ.get("GYRAL_LEAST_FREE_MIB", _LEAST_FREE_MIB))
    free_mib = shutil.disk_usage(folder).free >> 20
    if free_mib < least_mib:
        raise LocalError(
            f"{folder} has {free_mib} MiB left and needs {least_mib}: free some space there, "
            "or set GYRAL_HOME to a folder on another disk"
        )
