"""Runs the monitor: `python -m gyral.monitor`."""

from gyral.kit.service import serve
from gyral.monitor.app import build
from gyral.monitor.settings import Settings

if __name__ == "__main__":
    serve(build(Settings()))
