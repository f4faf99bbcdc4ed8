"""Runs the registry: `python -m gyral.registry`."""

from gyral.kit.service import serve
from gyral.registry.app import build
from gyral.registry.settings import Settings

if __name__ == "__main__":
    serve(build(Settings()))
