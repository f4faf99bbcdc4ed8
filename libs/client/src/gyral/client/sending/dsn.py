"""Where a source database is: from the environment or a private file, never from arguments."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gyral.client.errors import ClientError

VARIABLE = "GYRAL_SOURCE_DSN"


def find(file: Path | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of the source database.

    Raises:
        ClientError: nothing says it, or others may read the file that does.
    """
    if file is not None:
        return _of_file(file)
    found = environment.get(VARIABLE, "").strip()
    if not found:
        raise ClientError(
            f"{VARIABLE}: expected postgresql://user:password@host/database; found nothing: "
            "set it, or name a file with --dsn-file"
        )
    return found


def _of_file(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & 0o077:
                raise ClientError(
                    f"{file}: expected mode 0600, as it holds a password; found {mode:04o}: "
                    f"chmod 600 {file}"
                )
            found = opened.read(1 << 16).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(
            f"{file}: expected a file with a DSN; found {getattr(error, 'strerror', 'no text')}"
        ) from error
    if not found:
        raise ClientError(f"{file}: expected a DSN; found an empty file")
    return found
