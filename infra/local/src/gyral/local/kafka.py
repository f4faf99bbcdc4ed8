"""Becomes one Kafka node: formats its storage at first start, then runs in this process."""

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

_PREFIX = "KAFKA_"
_JVM = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
)


def properties(environment: dict[str, str]) -> str:
    """Return server.properties for KAFKA_ variables, named as Kafka's own image names them.

    `_` stands for a dot, `__` for an underscore and `___` for a dash.
    """
    lines = []
    for name, value in sorted(environment.items()):
        if name.startswith(_PREFIX):
            key = name.removeprefix(_PREFIX).lower()
            key = (
                key.replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_")
            )
            lines.append(f"{key}={value}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the node over the folder of KAFKA_LOG_DIRS with the jars of the first argument."""
    jars, logging = sys.argv[1:3]
    data = Path(os.environ["KAFKA_LOG_DIRS"])
    data.mkdir(parents=True, exist_ok=True)
    config = data.with_name(f"{data.name}.properties")
    config.write_text(properties(dict(os.environ)))
    java = ["java", *_JVM, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{jars}/*"]
    if not (data / "meta.properties").exists():
        _format(java, config)
    os.execvp("java", [*java, "kafka.Kafka", str(config)])  # noqa: S606, S607 - argv, no shell


def _format(java: list[str], config: Path) -> None:
    cluster = base64.urlsafe_b64encode(b"\x01" + secrets.token_bytes(15)).decode().rstrip("=")
    tool = [
        *java,
        "kafka.tools.StorageTool",
        "format",
        "--cluster-id",
        cluster,
        "--config",
        str(config),
    ]
    subprocess.run([*tool, "--ignore-formatted"], check=True)


if __name__ == "__main__":
    main()
