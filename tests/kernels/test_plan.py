"""Plans: equal ones are one object, however they are created."""

import copy
import gc
import pickle

import torch

from mpnn_arch import RelationalGraph
from mpnn_arch.kernels.plan import RoundPlan, find_plan, make_plan


def path_plan(width: int = 7) -> RoundPlan:
    edges = RelationalGraph(3, [[0, 1], [1, 2]]).edge_index
    return make_plan(edges, [width - 4, 2, 2], [1, 2, 2])


def test_equal_plans_are_one_object() -> None:
    plan = path_plan()
    assert path_plan() is plan
    assert copy.deepcopy(plan) is plan
    assert pickle.loads(pickle.dumps(plan)) is plan
    assert find_plan(plan.key, torch.device("cpu")) is plan
    assert path_plan(8) is not plan
    assert path_plan(8).key != plan.key


def test_plans_die_with_their_layers() -> None:
    key = path_plan(30).key
    gc.collect()
    assert find_plan(key, torch.device("cpu")) is None


def test_blocks_of_a_path() -> None:
    plan = path_plan()
    # Node 1 receives channels 0..6 (3 + 2 + 2) and has two rows of the dense (5, 7) matrix.
    assert plan.fan_in.tolist() == [5, 7, 4]
    assert plan.weight_offset.tolist() == [0, 5, 19, 27]
    assert plan.dense_mask.int().tolist() == [
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1],
    ]
