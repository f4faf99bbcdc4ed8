"""Runs validation as this process."""

from gyral.kit.service import serve
from gyral.validation.app import build
from gyral.validation.settings import Settings

if __name__ == "__main__":
    serve(build(Settings()))
