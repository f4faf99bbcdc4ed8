"""Runs ingestion as this process."""

from gyral.ingestion.app import build
from gyral.ingestion.settings import Settings
from gyral.kit.service import serve

if __name__ == "__main__":
    serve(build(Settings()))
