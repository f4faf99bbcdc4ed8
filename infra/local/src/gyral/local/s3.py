"""Becomes S3Proxy: an S3 server over a folder, in this process's place."""

import os
import sys
from pathlib import Path

from gyral.local.instance import write_private

_JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
)


def main() -> None:
    """Serve the folder of S3_FOLDER at S3_LISTEN with the jar of the first argument."""
    data = Path(os.environ["S3_FOLDER"])
    data.mkdir(parents=True, exist_ok=True)
    config = data.with_name(f"{data.name}.properties")
    lines = {
        "s3proxy.endpoint": os.environ["S3_LISTEN"],
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": os.environ["S3_ACCESS_KEY"],
        "s3proxy.credential": os.environ["S3_SECRET_KEY"],
        "jclouds.provider": "filesystem-nio2",
        "jclouds.identity": "unused",
        "jclouds.credential": "unused",
        "jclouds.filesystem.basedir": str(data),
    }
    write_private(config, "".join(f"{key}={value}\n" for key, value in lines.items()))
    command = ["java", *_JVM, "-jar", sys.argv[1], "--properties", str(config)]
    os.execvp("java", command)  # noqa: S606, S607 - argv, no shell


if __name__ == "__main__":
    main()
