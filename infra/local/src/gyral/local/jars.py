"""Has Maven fetch the Java servers into a cache that all instances share."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from gyral.local.errors import LocalError
from gyral.local.instance import POM, jar_folder

_JAVA = 17
_GOALS = {"kafka": "copy-dependencies", "s3proxy": "copy", "zipkin": "copy"}
_TIMEOUT_S = 900


def missing(components: Iterable[str]) -> list[str]:
    """Return the components that are not in the cache yet."""
    return sorted({name for name in components if not (jar_folder() / name).is_dir()})


def require_java() -> None:
    """Check that Java is there and new enough.

    Raises:
        LocalError: it is not.
    """
    java = shutil.which("java")
    if java is None:
        raise LocalError(
            f"Java is missing: install a JDK or JRE {_JAVA} or later and put `java` on PATH"
        )
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    if match is None or int(match[1]) < _JAVA:
        found = match[1] if match else "an unknown version"
        raise LocalError(
            f"Java {_JAVA} or later is needed, `java` is {found}: put a newer one first on PATH"
        )


def fetch(components: Iterable[str]) -> None:
    """Bring missing components into the cache; instances that start together share a download.

    Raises:
        LocalError: Maven is missing, or could not fetch them.
    """
    if not missing(components):
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise LocalError(
            "Maven is missing: install it and put `mvn` on PATH (only the first start needs it)"
        )
    jar_folder().mkdir(parents=True, exist_ok=True)
    with (jar_folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in missing(components):
            _fetch(maven, name)


def _fetch(maven: str, name: str) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=jar_folder()))
    goal = f"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:{_GOALS[name]}@{name}"
    command = [maven, "-B", "-q", "-C", "-f", str(POM), f"-Dgyral.jars={draft}", goal]
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            env=os.environ,
        )
        if answer.returncode != 0 or not any(draft.glob("*.jar")):
            raise LocalError(
                f"Maven could not fetch {name} ({_reason(answer.stdout + answer.stderr)}): "
                "check the network, or mirrors and proxies in Maven's settings; then try again"
            )
        draft.rename(jar_folder() / name)
    except subprocess.TimeoutExpired as error:
        raise LocalError(
            f"Maven took over {_TIMEOUT_S} s to fetch {name}: check the network, then try again"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _reason(output: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    errors = [line for line in plain.splitlines() if line.startswith("[ERROR]")]
    line = errors[0].removeprefix("[ERROR]").strip() if errors else "no error was printed"
    return line.partition(" -> [Help")[0][:300]
