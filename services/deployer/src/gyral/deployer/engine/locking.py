"""Which libraries a Bento installs: those that this process has, in the very same versions.

Of a library that it has not, only the version is said that a manifest names; what that one
requires is for the installer to choose.
"""

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


def locked(names: Iterable[str]) -> list[str]:
    """Return `name==version` of distributions and all that they require, by name.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(name), "") for name in names]
    while waiting:
        wanted, extra = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        distribution = metadata.distribution(name)
        found[name] = distribution.version
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed, each) for each in ("", *sorted(needed.extras))]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def pinned(name: str, version: str) -> str:
    """Return `name==version` for a library that a manifest says it was made with.

    Without a local part such as `+cpu`, which no public index has.

    Raises:
        ValueError: the version is none; whatever else it may be reaches no installer.
    """
    try:
        return f"{name}=={Version(version).public}"
    except InvalidVersion as error:
        raise ValueError(
            f"libraries.{name}: expected a version; found {version[:40]!r}"
        ) from error
