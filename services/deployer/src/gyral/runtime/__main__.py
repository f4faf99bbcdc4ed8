"""`python -m gyral.runtime`: serve until told to stop."""

from gyral.kit.service import serve
from gyral.runtime.app import build
from gyral.runtime.settings import Settings

if __name__ == "__main__":
    serve(build(Settings()))
