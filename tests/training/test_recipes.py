import dataclasses

import pytest

from mpnn_arch import InputError, models
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import list_datasets
from mpnn_arch.training.recipes import (
    RECIPES,
    Recipe,
    default_graphs,
    list_recipes,
    recipe,
    set_values,
)


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_is_whole_and_says_what_it_costs(name):
    made = RECIPES.get(name)()
    assert made.model in models.list_models()
    assert made.dataset in list_datasets()
    assert default_graphs(made.model, made)
    text = RECIPES.get(name).__doc__
    for words in ("Command", f"--recipe {name}", "ime", "emory", "error"):
        assert words in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.seeds = 7
    with pytest.raises(TypeError):
        RECIPES.get(name)(made.training)


def test_the_published_recipes_are_the_published_ones():
    cifar = RECIPES.get("mlp_cifar10")()
    assert cifar.training == TrainingConfig(
        epochs=200, batch_size=128, learning_rate=0.1, momentum=0.9, nesterov=True,
        weight_decay=5e-4, schedule="cosine_by_epoch", flip=True, crop_padding=4,
        optimizer=cifar.training.optimizer,
    )  # fmt: skip
    assert cifar.seeds == 5
    for name in ("cnn8", "resnet34", "resnet34_sep", "resnet50", "efficientnet_b0"):
        made = RECIPES.get(f"{name}_imagenet")()
        efficient = name == "efficientnet_b0"
        assert made.training == TrainingConfig(
            epochs=100, batch_size=512 if efficient else 256,
            learning_rate=0.2 if efficient else 0.1, weight_decay=5e-5 if efficient else 1e-4,
            schedule="cosine_by_epoch", drop_last=True, flip=True, smallest_area=0.08,
            lighting=0.1, batch_norm_images=1024, optimizer=made.training.optimizer,
        )  # fmt: skip
        assert made.init == "published"  # the last BatchNorm of a block starts at 0


def test_the_defaults_are_those_of_the_first_version():
    """The training that each model gets where nothing is said, pinned."""
    first = {
        "epochs": 15, "batch_size": 128, "learning_rate": 0.1, "momentum": 0.9, "nesterov": True,
        "weight_decay": 5e-4,
    }  # fmt: skip
    for name in models.list_models():
        wanted = dict(first)
        if name in ("vit", "mlp_mixer"):
            wanted["learning_rate"] = 0.03
        elif name != "mlp":
            wanted["epochs"] = 6
        for dataset in (None, "mnist5k", "digits", "cifar10"):
            assert recipe(name, dataset).training == TrainingConfig(**wanted)
            assert recipe(name, dataset).seeds == 3
        assert recipe(name).init == (None if name == "mlp" else "kaiming")
    assert default_graphs("mlp") == ("ws_flex:64,12,0.15,0", "complete:64")
    assert default_graphs("efficientnet_b0") == ("ws_flex:16,5,0.15,0",)


@pytest.mark.parametrize(
    ("values", "word"),
    [({"training": {}}, "training"), ({"init": "zeros"}, "init"), ({"seeds": 0}, "seeds")],
)
def test_a_recipe_that_is_none_is_refused(values, word):
    with pytest.raises(InputError, match=word):
        Recipe(**values)


def test_values_are_read_by_the_type_of_their_field():
    assert set_values(
        {"epochs": "3", "learning_rate": "1e-2", "flip": "true", "clip_gradient_norm": "none",
         "smallest_area": " 0.5", "schedule": "cosine_by_epoch"}
    ) == {
        "epochs": 3, "learning_rate": 0.01, "flip": True, "clip_gradient_norm": None,
        "smallest_area": 0.5, "schedule": "cosine_by_epoch",
    }  # fmt: skip
    # Every field can be set, and given back as it was.
    config = TrainingConfig()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        assert set_values({field.name: str(value).lower()}) == {field.name: value}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rate": "0.1"}, "no field 'rate'"),
        ({"epochs": "2.5"}, "integer"),
        ({"epochs": "none"}, "integer"),
        ({"epochs": "1_0"}, "integer"),
        ({"learning_rate": "inf"}, "learning_rate: 'inf' is"),
        ({"flip": "yes"}, "true or false"),
        ({"weight_decay": "small"}, "a number"),
    ],
)
def test_text_that_is_no_value_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        set_values(settings)
