"""What an archive of sources may be made of, and that nothing else of it is ever read."""

import io
import re
import stat
import struct
import sys
import zipfile
from contextlib import suppress
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.modelling.archives import (
    MAX_BYTES,
    MAX_FILES,
    ArchiveError,
    imported,
    packed,
    sources_of,
)

SOURCES = {"network.py": "from .parts import ONE\n\nTWO = ONE + 1\n", "parts.py": "ONE = 1\n"}


def archive(*entries, compression=ZIP_STORED):
    """An archive of (name or ZipInfo, content) pairs."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in entries:
            made.writestr(name, content, compress_type=compression)
    return file.getvalue()


def a_link():
    info = ZipInfo("network.py")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return archive((info, "/etc/passwd"))


def over_each_other():
    """Many names for the same bytes, as the densest bombs have."""
    one = archive(("a.py", "#" * 60_000))
    directory = one.index(b"PK\x01\x02")
    entry, end = one[directory:-22], one[-22:]
    many = b"".join(entry.replace(b"a.py", bytes([97 + n]) + b".py") for n in range(20))
    count, size = struct.pack("<HH", 20, 20), struct.pack("<I", len(many))
    return one[:directory] + many + end[:8] + count + size + end[16:]


def encrypted():
    made = bytearray(archive(("network.py", "ONE = 1\n")))
    made[6] |= 1
    made[made.index(b"PK\x01\x02") + 8] |= 1
    return bytes(made)


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        (archive(("network.py", " " * 10**7), compression=ZIP_DEFLATED), "found it packed"),
        (over_each_other(), "bytes of sources, as the archive is long"),
        (archive(("../network.py", "")), "without dots"),
        (archive(("a/../../network.py", "")), "without dots"),
        (archive(("/etc/network.py", "")), "a relative name"),
        (archive(("C:network.py", "")), "a relative name"),
        (archive(("a\\b.py", "")), "a relative name"),
        (archive(("network.pyc", "")), "Python sources"),
        (archive(("libevil.so", "")), "Python sources"),
        (archive(("folder/", "")), "Python sources"),
        (archive(("network.py", ""), ("__init__.pth", "")), "Python sources"),
        (archive(*((f"m{n}.py", "") for n in range(MAX_FILES + 1))), f"found {MAX_FILES + 1}"),
        (archive(), "1 to 32 files; found 0"),
        (a_link(), "expected a file; found a link"),
        (encrypted(), "expected no encryption"),
        (archive(("network.py", b"\xff")), "expected sources in UTF-8"),
        (packed(SOURCES)[:-30], "expected a zip archive"),
        (b"\x80\x04K\x01.", "expected a zip archive"),
        (b"", "expected a zip archive"),
        (b"P" * (MAX_BYTES + 1), f"expected at most {MAX_BYTES} bytes"),
    ],
    ids=lambda each: each[:40] if isinstance(each, str) else None,
)
def test_a_hostile_archive_is_refused_with_its_reason(hostile, said):
    with pytest.raises(ArchiveError, match=r"code\.zip: ") as refused:
        sources_of(hostile)
    assert said in str(refused.value)
    assert "Traceback" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused():
    with pytest.raises(ArchiveError, match="found one twice"):
        sources_of(archive(("network.py", "a"), ("network.py", "b")))


def test_the_same_sources_are_the_same_bytes_in_whatever_order():
    turned = dict(reversed(SOURCES.items()))
    assert packed(SOURCES) == packed(turned)
    assert sources_of(packed(SOURCES)) == SOURCES


def test_sources_import_each_other_and_versions_live_beside_each_other():
    first = imported(SOURCES, "a" * 64, "network")
    other = imported({**SOURCES, "parts.py": "ONE = 10\n"}, "b" * 64, "network")
    assert (first.TWO, other.TWO) == (2, 11)
    assert imported(SOURCES, "a" * 64, "network") is first
    assert "network" not in sys.modules


def test_what_is_not_among_the_sources_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        imported({"network.py": "from . import other\n"}, "c" * 64, "absent")


def test_sources_in_folders_are_packages():
    sources = {"deep/__init__.py": "ONE = 1\n", "deep/down.py": "from . import ONE\n"}
    assert imported(sources, "d" * 64, "deep.down").ONE == 1


@given(st.data())
def test_an_archive_with_any_of_its_bytes_changed_is_sources_or_is_refused(data):
    archive = bytearray(packed(SOURCES))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(archive) - 1))
        archive[place] = data.draw(st.integers(0, 255))
    with suppress(ArchiveError):
        found = sources_of(bytes(archive))
        assert len(found) <= MAX_FILES
        assert all(re.fullmatch(r"[a-z0-9_/]+\.py", name) for name in found)
        assert sum(map(len, found.values())) <= len(archive)
