"""Ids are UUIDs of version 4, and no two alike."""

import os
import uuid

from gyral.gateway.domain.ids import Ids


def test_ids_are_random_uuids_and_distinct():
    new_id = Ids(os.urandom)
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for each in ids:
        parsed = uuid.UUID(each)
        assert str(parsed) == each
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


def test_randomness_is_asked_for_once_for_many():
    asked = []

    def random_bytes(count):
        asked.append(count)
        return os.urandom(count)

    new_id = Ids(random_bytes)
    for _ in range(300):
        new_id()
    assert asked == [4096, 4096]
