"""Runs the deployer: `python -m gyral.deployer`."""

from gyral.deployer.app import build
from gyral.deployer.settings import Settings
from gyral.kit.service import serve

if __name__ == "__main__":
    serve(build(Settings()))
