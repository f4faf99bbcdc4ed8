"""Runs the trainer: `python -m gyral.trainer`."""

from gyral.kit.service import serve
from gyral.trainer.app import build
from gyral.trainer.settings import Settings

if __name__ == "__main__":
    serve(build(Settings()))
