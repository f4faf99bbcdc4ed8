"""A key lies where every other producer would put it."""

import numpy as np
import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.partitioning import partitions_of, partitions_within


def by_aiokafka(keys, count):
    partitions = list(range(count))
    return [DefaultPartitioner()(key, partitions, partitions) for key in keys]


@given(st.lists(st.binary(max_size=40)), st.integers(1, 100))
def test_keys_lie_where_aiokafkas_own_partitioner_puts_them(keys, count):
    assert partitions_of(keys, count).tolist() == by_aiokafka(keys, count)


@given(st.lists(st.text(max_size=256).map(str.encode), min_size=1, max_size=5))
def test_long_keys_and_keys_of_other_scripts_do_too(keys):
    assert partitions_of(keys, 7).tolist() == by_aiokafka(keys, 7)


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        (b"21", -973932308 & 0x7FFFFFFF),
        (b"foobar", -790332482 & 0x7FFFFFFF),
        (b"a-little-bit-long-string", -985981536 & 0x7FFFFFFF),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971 & 0x7FFFFFFF),
    ],
)
def test_the_hash_is_that_of_kafkas_own_tests(key, partition):
    assert partitions_of([key], 0x7FFFFFFF).tolist() == [partition % 0x7FFFFFFF]


def test_a_column_may_be_a_part_of_a_longer_text():
    bounds = np.array([2, 3, 6], dtype=np.int64)
    found = partitions_within(b"..abcd..", bounds, 11)
    assert found.tolist() == by_aiokafka([b"a", b"bcd"], 11)


def test_the_partition_is_a_small_integer_also_of_no_key_at_all():
    assert partitions_of([], 3).dtype == np.int32
    assert partitions_of([], 3).shape == (0,)
