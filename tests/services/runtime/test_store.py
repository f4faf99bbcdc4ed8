import hashlib
import json
import os

import pytest

from gyral.contracts.names import BlobRef
from gyral.runtime.domain import Files
from gyral.runtime.store import Cache, DamagedCacheError, UnreadableCacheError


def a_ref(content):
    return BlobRef(key="k", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def kept(cache, content):
    ref = a_ref(content)
    cache.path(ref).write_bytes(content)
    return ref


def test_what_was_kept_is_known_to_the_next_process(tmp_path):
    cache = Cache(tmp_path)
    files = Files(*(kept(cache, part) for part in (b"o", b"m", b"g")))
    cache.keep({"m@1": files})
    again = Cache(tmp_path)
    assert again.slots() == {"m@1": files}
    assert again.read(files.model) == b"o"


def test_a_version_with_code_is_known_too_and_its_code_is_kept(tmp_path):
    cache = Cache(tmp_path)
    files = Files(*(kept(cache, part) for part in (b"w", b"m", b"g", b"c")))
    cache.keep({"m@1": files})
    assert Cache(tmp_path).slots() == {"m@1": files}
    assert files.code is not None
    assert cache.read(files.code) == b"c"


def test_what_an_older_runtime_kept_is_read(tmp_path):
    parts = {part: a_ref(part.encode()).model_dump() for part in ("onnx", "manifest", "golden")}
    (tmp_path / "slots.json").write_text(json.dumps({"m@1": parts}))
    [files] = Cache(tmp_path).slots().values()
    assert (files.model, files.code) == (a_ref(b"onnx"), None)


def test_files_no_slot_needs_are_forgotten(tmp_path):
    cache = Cache(tmp_path)
    ref = kept(cache, b"old")
    cache.keep({})
    assert not cache.has(ref)


def test_a_file_that_changed_on_the_disk_is_refused_and_fetched_anew(tmp_path):
    cache = Cache(tmp_path)
    ref = kept(cache, b"good")
    cache.path(ref).write_bytes(b"evil")
    with pytest.raises(DamagedCacheError, match=f"expected sha256 {ref.sha256}"):
        cache.read(ref)
    assert not cache.has(ref)
    assert not cache.path(ref).exists()


def test_a_file_with_a_second_name_is_refused(tmp_path):
    cache = Cache(tmp_path)
    ref = kept(cache, b"good")
    os.link(cache.path(ref), tmp_path / "second")
    with pytest.raises(DamagedCacheError, match="expected one link"):
        cache.read(ref)


def test_a_file_that_cannot_be_read_now_is_kept_and_no_message_names_its_place(tmp_path):
    cache = Cache(tmp_path)
    ref = a_ref(b"good")
    with pytest.raises(DamagedCacheError, match="expected a cached file; found none"):
        cache.read(ref)
    cache.path(ref).mkdir()  # as much as the superuser cannot read
    for ask in (cache.read, cache.has):
        with pytest.raises(UnreadableCacheError, match="found Is a directory") as told:
            ask(ref)
        assert str(tmp_path) not in str(told.value)
    assert cache.path(ref).exists()
