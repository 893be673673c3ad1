import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnn_arch import ChannelPartition, InputError


def test_first_nodes_hold_the_larger_shares():
    partition = ChannelPartition(10, 4)
    assert partition.sizes == (3, 3, 2, 2)
    assert partition.offsets == (0, 3, 6, 8, 10)
    assert partition.largest == 3


def test_published_order_is_the_papers_permutation():
    sizes = [9] * 5 + [8] * 59
    expected = np.random.RandomState(1).permutation(sizes)
    assert ChannelPartition(64 * 8 + 5, 64, order="published").sizes == tuple(expected)


def test_published_order_leaves_the_global_stream_alone():
    np.random.seed(7)  # noqa: NPY002 - the global stream is what this test watches
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    ChannelPartition(70, 64, order="published")
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_given_shares_are_taken_as_they_are():
    partition = ChannelPartition.from_sizes([16, 16, 16, 17])
    assert partition.sizes == (16, 16, 16, 17)
    assert partition.num_channels == 65
    assert partition.num_nodes == len(partition) == 4
    assert "16..17 each" in repr(partition)


@given(st.integers(1, 80), st.integers(0, 500), st.sampled_from(["first", "published"]))
def test_every_channel_has_one_node_and_shares_differ_by_one_at_most(nodes, extra, order):
    partition = ChannelPartition(nodes + extra, nodes, order=order)
    assert sum(partition.sizes) == partition.num_channels == nodes + extra
    assert len(partition.sizes) == nodes
    assert max(partition.sizes) - min(partition.sizes) <= 1
    assert np.diff(partition.offsets).tolist() == list(partition.sizes)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ChannelPartition(5, 8), "5 channels cannot be shared among 8 nodes"),
        (lambda: ChannelPartition(1, 8), "1 channel cannot be shared among 8 nodes"),
        (lambda: ChannelPartition(5, 0), "the number of nodes is between 1 and"),
        (lambda: ChannelPartition(8, 4, order="last"), "no partition order 'last'"),
        (lambda: ChannelPartition.from_sizes([]), "at least one share"),
        (
            lambda: ChannelPartition.from_sizes([3, 0]),
            "every node's share is between 1 and",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
