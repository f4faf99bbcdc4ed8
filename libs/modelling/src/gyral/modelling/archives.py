"""The sources of a network as one archive: checked before it is read, imported from memory."""

import io
import re
import stat
import sys
import zipfile
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from zipfile import ZipInfo

MAX_BYTES = 1 << 20
"""Of an archive, and so of all its sources: they are stored, not packed."""
MAX_FILES = 32
_NAME = re.compile(r"([a-z_][a-z0-9_]{0,60}/){0,4}[a-z_][a-z0-9_]{0,60}\.py")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PREFIX = "gyral_code_"


class ArchiveError(ValueError):
    """An archive of sources is not what it must be."""


def packed(sources: Mapping[str, str]) -> bytes:
    """Return sources as an archive; the same sources are the same bytes.

    Args:
        sources: text by name, such as `network.py`.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources):
            info = ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o444) << 16
            archive.writestr(info, sources[name].encode())
    return file.getvalue()


def sources_of(archive: bytes) -> dict[str, str]:
    """Return the sources in an archive by name; nothing is written anywhere.

    Raises:
        ArchiveError: it is no archive, or something in it is other than Python sources.
    """
    if len(archive) > MAX_BYTES:
        raise ArchiveError(
            f"code.zip: expected at most {MAX_BYTES} bytes; found {len(archive)}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            _check(opened.infolist(), len(archive))
            return {info.filename: opened.read(info).decode() for info in opened.infolist()}
    except ArchiveError:
        raise
    except UnicodeDecodeError as error:
        raise ArchiveError("code.zip: expected sources in UTF-8; found other bytes") from error
    # zipfile does not say what it raises on bytes that somebody made up.
    except Exception as error:
        raise ArchiveError(
            f"code.zip: expected a zip archive; found {type(error).__name__}"
        ) from error


def _check(entries: list[ZipInfo], archive_bytes: int) -> None:
    """Refuse what no archive of sources has, before a byte of it is read."""
    if not 0 < len(entries) <= MAX_FILES:
        raise ArchiveError(f"code.zip: expected 1 to {MAX_FILES} files; found {len(entries)}")
    names = {info.filename for info in entries}
    if len(names) < len(entries):
        raise ArchiveError("code.zip: expected distinct names; found one twice")
    for place, info in enumerate(entries):
        if not _NAME.fullmatch(info.filename) or info.orig_filename != info.filename:
            raise ArchiveError(
                f"code.zip: file {place}: expected a relative name of Python sources, without"
                f" dots, such as network.py; found {info.filename[:80]!r}"
            )
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ArchiveError(f"code.zip: {info.filename}: expected a file; found a link")
        if info.flag_bits & 0x1:
            raise ArchiveError(f"code.zip: {info.filename}: expected no encryption; found it")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ArchiveError(
                f"code.zip: {info.filename}: expected it stored as it is; found it packed"
            )
    size_bytes = sum(info.file_size for info in entries)
    if size_bytes > archive_bytes:  # entries that lie over each other
        raise ArchiveError(
            f"code.zip: expected at most {archive_bytes} bytes of sources, as the archive is"
            f" long; found {size_bytes}"
        )


def imported(sources: Mapping[str, str], digest: str, module: str) -> ModuleType:
    """Run one module of checked sources, and what it imports of them, in this process.

    They are a package of their own, named by their digest: versions with other code live
    beside each other. Whatever the code raises passes through.
    """
    package = _PREFIX + digest[:32]
    if package not in sys.modules:
        sys.meta_path.append(_Importer(package, sources))
    return import_module(f"{package}.{module}")


class _Importer(MetaPathFinder, InspectLoader):
    """Finds one package's modules in memory."""

    def __init__(self, package: str, sources: Mapping[str, str]) -> None:
        self._package = package
        self._sources = sources

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module comes from, if it is of this package."""
        del path, target
        if fullname != self._package and not fullname.startswith(f"{self._package}."):
            return None
        if fullname != self._package and self._file(fullname) not in self._sources:
            return None
        return spec_from_loader(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """Return True for the package itself and its folders."""
        return fullname == self._package or self._file(fullname).endswith("/__init__.py")

    def get_source(self, fullname: str) -> str:
        """Return a module's text; the package itself has none."""
        return self._sources.get(self._file(fullname), "")

    def _file(self, fullname: str) -> str:
        path = "/".join(fullname.split(".")[1:])
        inside = f"{path}/__init__.py".removeprefix("/")
        return inside if inside in self._sources else f"{path}.py"
