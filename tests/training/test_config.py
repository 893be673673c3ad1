import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch

from mpnn_arch import InputError
from mpnn_arch.graphs import parse_one
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.training.config import TrainingConfig, from_mapping
from mpnn_arch.training.loop import make_optimizer


def test_the_learning_rate_decays_to_0_along_a_half_cosine():
    config = TrainingConfig(learning_rate=0.2)
    rates = [config.learning_rate_at(step, 100) for step in range(101)]
    assert rates[0] == 0.2
    assert rates[50] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(0, abs=1e-15)
    assert all(a > b for a, b in itertools.pairwise(rates))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": 1e39}, "learning_rate .* float32"),
        ({"weight_decay": 10**400}, "weight_decay .* float32"),
        ({"learning_rate": "0.1"}, "learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": 0}, "nesterov"),
        ({"nesterov": 1}, "nesterov"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"rate": 0.1}, "'rate'"),
        ({"schedule": "steps"}, "schedule"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"clip_gradient_norm": 0}, "clip_gradient_norm"),
        ({"drop_last": 1}, "drop_last"),
        ({"flip": "true"}, "flip"),
        ({"crop_padding": -1}, "crop_padding"),
        ({"smallest_area": 0}, "smallest_area"),
        ({"lighting": -0.1}, "lighting"),
        ({"batch_norm_images": 1}, "batch_norm_images"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"evaluate_every": 1.5}, "evaluate_every"),
        ({"precision": "float16"}, "precision"),
        ({"channels_last": None}, "channels_last"),
        ({"compile": 0}, "compile"),
    ],
)
def test_a_recipe_out_of_range_is_refused_in_one_sentence(values, word):
    with pytest.raises(InputError, match=word) as error:
        from_mapping(TrainingConfig, values)
    assert "\n" not in str(error.value)


def test_the_rate_of_a_schedule_by_epoch_is_constant_within_one():
    config = TrainingConfig(epochs=4, schedule="cosine_by_epoch")
    rates = [config.scheduled_rate(step, 10) for step in range(40)]
    assert rates == [config.learning_rate_at(epoch, 4) for epoch in range(4) for _ in range(10)]
    by_step = TrainingConfig(epochs=4)
    assert [by_step.scheduled_rate(step, 10) for step in range(40)] == [
        by_step.learning_rate_at(step, 40) for step in range(40)
    ]


def test_a_large_integer_is_a_number_as_others_are():
    config = from_mapping(TrainingConfig, {"weight_decay": 10**30})
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.zeros(1)
    make_optimizer([parameter], config).step()
    assert parameter.item() < -1e28


def study_config(**values):
    return StudyConfig(
        **{"model": "mlp", "dataset": "digits", "graphs": ["ring:8"], "seeds": [0, 1]} | values
    )


def test_a_study_round_trips_through_json():
    config = study_config(training=TrainingConfig(learning_rate=0.05), train_images=100)
    assert StudyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"graphs": []}, "graphs"),
        ({"graphs": ["ring:8", "ring:8"]}, "twice"),
        ({"graphs": "ring:8"}, "graphs"),
        ({"graphs": [8]}, "text"),
        ({"seeds": [0, 0]}, "twice"),
        ({"seeds": [-1]}, "seed"),
        ({"seeds": ["1"]}, "seed"),
        ({"train_images": 0}, "train_images"),
        ({"width_multiplier": "1"}, "width_multiplier"),
        ({"model": 3}, "model"),
        ({"training": {}}, "TrainingConfig"),
    ],
)
def test_a_study_out_of_range_is_refused(values, word):
    with pytest.raises(InputError, match=word):
        study_config(**values)


def make(graph):
    return None


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        ({"model": make}, "give '(tests.training.)?test_config:make'"),
        ({"model": lambda graph: None}, "into a file of its own, and give its path, as 'my_file:"),
        ({"model": torch.nn.Linear(1, 1)}, "into a file of its own"),
        ({"dataset": 5}, "dataset is a name, 5 was given; give its name as text"),
        ({"messages": (make,)}, "an entry of messages is a name, .*; give '"),
        ({"aggrs": (lambda x: x,)}, "an entry of aggrs is a name, .*; put what makes it into"),
        ({"messages": "linear"}, "messages is a list, 'linear' was given; put it in brackets"),
        ({"graphs": (parse_one("ring:8,2"),)}, "numpy.savetxt.* give 'file:mine.csv'"),
        ({"training": {"epochs": 3}}, r"give TrainingConfig\(epochs=3\), or the .training"),
    ],
)
def test_an_object_in_the_place_of_its_name_is_refused_with_the_name_to_give(values, fix):
    base = {"model": "mlp", "dataset": "digits", "graphs": ("ring:8,2",), "seeds": (0,)}
    with pytest.raises(InputError, match=fix):
        StudyConfig(**{**base, **values})


def test_the_graph_that_the_message_has_written_is_the_same(tmp_path):
    graph = parse_one("ws_flex:16,4,0.2,0")
    np.savetxt(tmp_path / "mine.csv", graph.adjacency, "%d", ",")
    assert parse_one(f"file:{tmp_path / 'mine.csv'}") == graph


def test_numbers_of_numpy_are_numbers():
    """As loops over np.arange and columns of a table give them."""
    graphs = np.array(["ring:8,2", "complete:8"])
    plain = study_config(graphs=tuple(graphs.tolist()), seeds=(0, 1), train_images=50)
    given = study_config(graphs=graphs, seeds=np.arange(2), train_images=np.int64(50))
    assert given == plain == study_config(**vars(plain) | {"seeds": list(np.arange(2))})
    training = TrainingConfig(epochs=np.int64(3), learning_rate=np.float32(0.5))
    assert json.dumps(training.to_dict()) == json.dumps(
        TrainingConfig(epochs=3, learning_rate=0.5).to_dict()
    )
    for wrong in (np.array([0.5]), [2**63]):
        with pytest.raises(InputError, match=r"from 0 to 2\^63 - 1, .* was given"):
            study_config(seeds=wrong)
    raced = study_config(race=np.array([1, 3]), keep=np.float32(0.5))
    assert raced == study_config(race=[np.int64(1), 3], keep=np.float64(0.5))
    assert json.loads(json.dumps(raced.to_dict()))["race"] == [1, 3]
    for wrong in ([True], [1.5], "1", np.array(1)):
        with pytest.raises(InputError, match="race is a list of numbers of epochs"):
            study_config(race=wrong)


def test_seeds_are_a_range_and_a_folder_is_a_path(tmp_path):
    config = StudyConfig(model="mlp", dataset=tmp_path, graphs=["ring:8,2"], seeds=range(3))
    assert config.seeds == (0, 1, 2)
    assert config.dataset == str(tmp_path)


def test_a_missing_field_is_named():
    with pytest.raises(InputError, match="'dataset'"):
        StudyConfig.from_dict({"model": "mlp"})
    with pytest.raises(InputError, match="named values"):
        StudyConfig.from_dict([])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: StudyConfig(model="mlp", message="gated"), "'message' (did you mean 'messages'?)"),
        (lambda: TrainingConfig(learning_rat=1.0), "(did you mean 'learning_rate'?)"),
        (lambda: TrainingConfig(lr=1.0), "a TrainingConfig has no field 'lr'; it has epochs, "),
    ],
)
def test_a_keyword_that_is_no_field_is_answered_with_the_fields(make, said):
    with pytest.raises(InputError) as caught:
        make()
    assert said in str(caught.value)


class Counted(str):
    """Text that counts how often it was compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return super().__eq__(other)


def test_the_work_for_each_graph_does_not_grow_with_their_number():
    names = tuple(Counted(f"ring:{nodes}") for nodes in range(3, 1003))
    study = StudyConfig(model="mlp", dataset="digits", graphs=names, seeds=(0,))
    more = dataclasses.replace(study, graphs=(*names, "complete:8"))
    Counted.compared = 0
    again = dataclasses.replace(study, seeds=(0, 1))
    assert study.added_by(dataclasses.replace(more, seeds=(0,))) == "1 more graph (complete:8)"
    assert again.graphs == names
    assert Counted.compared < 10 * len(names)
    with pytest.raises(InputError, match=r"graphs holds 'ring:4' twice"):
        dataclasses.replace(study, graphs=(*names, "ring:4"))
    with pytest.raises(InputError, match="messages holds None twice"):
        dataclasses.replace(study, messages=(None, None))
