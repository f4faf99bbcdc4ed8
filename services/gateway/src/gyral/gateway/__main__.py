"""Runs the gateway: `python -m gyral.gateway`."""

from gyral.gateway.app import build
from gyral.gateway.settings import Settings
from gyral.kit.service import serve

if __name__ == "__main__":
    serve(build(Settings()))
