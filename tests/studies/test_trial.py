import dataclasses
import json

import pytest

from mpnn_arch import InputError
from mpnn_arch.studies.trial import Trial
from mpnn_arch.training.config import TrainingConfig

BASE = Trial(
    model="mlp",
    graph="complete:16",
    graph_hash="ab" * 32,
    dataset="digits",
    data_hash="cd" * 32,
    recipe=TrainingConfig(),
    seed=0,
)
OTHER = {
    "model": "cnn8",
    "graph": "ring:16,4",
    "graph_hash": "12" * 32,
    "dataset": "mnist5k",
    "data_hash": "34" * 32,
    "recipe": TrainingConfig(epochs=16),
    "seed": 1,
    "message": "gated",
    "aggr": "max",
    "order": "random",
    "init": "kaiming",
    "backend": "gather",
    "width_multiplier": 1.5,
    "train_images": 100,
    "test_images": 100,
    "sources": (("module:thing", "56" * 32),),
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Trial)])
def test_every_field_counts(name):
    assert dataclasses.replace(BASE, **{name: OTHER[name]}).hash != BASE.hash


OTHER_RECIPE = {
    "epochs": 16,
    "batch_size": 64,
    "learning_rate": 0.2,
    "momentum": 0.5,
    "nesterov": False,
    "weight_decay": 1e-4,
    "schedule": "cosine_by_epoch",
    "optimizer": "fused",
    "label_smoothing": 0.1,
    "clip_gradient_norm": 1.0,
    "drop_last": True,
    "flip": True,
    "crop_padding": 4,
    "smallest_area": 0.08,
    "lighting": 0.1,
    "batch_norm_images": 1024,
    "precision": "bfloat16",
    "channels_last": True,
    "compile": True,
    "evaluate_every": 2,
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainingConfig)])
def test_every_field_of_the_recipe_counts(name):
    recipe = dataclasses.replace(BASE.recipe, **{name: OTHER_RECIPE[name]})
    assert dataclasses.replace(BASE, recipe=recipe).hash != BASE.hash


def test_a_trial_has_the_hash_that_published_results_name():
    assert "evaluate_every" not in BASE.to_dict()["recipe"]
    assert BASE.hash == ("599bc0da2c97ab6a70554464694c04fe257a94ae8850421283d664daef7996b2")
    seldom = dataclasses.replace(BASE, recipe=TrainingConfig(evaluate_every=3))
    assert Trial.from_dict(seldom.to_dict()) == seldom


def test_equal_trials_have_one_hash():
    whole = dataclasses.replace(BASE, recipe=TrainingConfig(learning_rate=1), width_multiplier=1)
    broken = dataclasses.replace(BASE, recipe=TrainingConfig(learning_rate=1.0))
    assert whole == broken
    assert whole.hash == broken.hash


def test_a_trial_comes_back_from_json():
    trial = dataclasses.replace(BASE, **OTHER)
    back = Trial.from_dict(json.loads(json.dumps(trial.to_dict())))
    assert back == trial
    assert back.hash == trial.hash


@pytest.mark.parametrize(
    "values", [{}, {**BASE.to_dict(), "colour": 1}, {**BASE.to_dict(), "recipe": {"epochs": 0}}]
)
def test_what_is_no_trial_is_refused(values):
    with pytest.raises(InputError):
        Trial.from_dict(values)
