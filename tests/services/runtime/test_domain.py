import pytest

from gyral.contracts.names import BlobRef
from gyral.runtime.domain import Files, FullError, Held, RefusedVersionError, State, admit


def some_files(digit):
    refs = [BlobRef(key=part, sha256=digit * 64, size_bytes=1) for part in ("o", "m", "g")]
    return Files(*refs)


def test_a_version_that_is_ready_with_these_bytes_needs_no_loading():
    held = {"m@1": Held(some_files("a"), State.READY)}
    assert not admit(held, "m@1", some_files("a"), max_models=1)


def test_the_bytes_of_a_ready_version_do_not_change():
    held = {"m@1": Held(some_files("a"), State.READY)}
    with pytest.raises(RefusedVersionError, match="Unload it first"):
        admit(held, "m@1", some_files("b"), max_models=1)


def test_a_version_that_failed_may_be_tried_again_with_other_bytes():
    held = {"m@1": Held(some_files("a"), State.UNAVAILABLE, "why")}
    assert admit(held, "m@1", some_files("b"), max_models=1)


def test_no_more_versions_are_held_than_allowed():
    held = {"m@1": Held(some_files("a"), State.READY)}
    with pytest.raises(FullError, match="m@2: expected room for one more version; found 1"):
        admit(held, "m@2", some_files("b"), max_models=1)
