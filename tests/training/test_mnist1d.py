import builtins
import random

import numpy as np
import pytest
import torch

from mpnn_arch import InputError
from mpnn_arch.training import load_dataset
from mpnn_arch.training.inputs import input_settings
from mpnn_arch.training.mnist1d import _signals


@pytest.fixture(scope="module")
def signals():
    pytest.importorskip("mnist1d")
    return load_dataset("mnist1d")


def test_it_is_the_published_set_with_more_to_test_on(signals):
    assert signals.image_shape == (1, 1, 40)
    assert (len(signals.train_labels), len(signals.test_labels)) == (4_000, 20_000)
    every = torch.cat([signals.train_images, signals.test_images])
    assert abs(every.mean()) < 1e-4
    assert abs(every.std() - 1) < 1e-4
    labels = torch.cat([signals.train_labels, signals.test_labels])
    assert torch.bincount(labels).tolist() == [2_400] * 10
    seen = {signal.numpy().tobytes() for signal in signals.train_images}
    assert sum(signal.numpy().tobytes() in seen for signal in signals.test_images) == 0


def test_it_comes_from_its_seed_and_leaves_the_global_states_alone(signals):
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    wanted = np.random.random(), random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    _signals.cache_clear()
    again = load_dataset("mnist1d")
    assert (np.random.random(), random.random()) == wanted  # noqa: NPY002
    assert torch.equal(again.train_images, signals.train_images)
    assert torch.equal(again.test_labels, signals.test_labels)


def test_models_of_square_images_refuse_it_and_say_which_take_it(signals):
    assert input_settings("mlp", signals) == {
        "num_classes": 10, "in_channels": 1, "in_features": 40,
    }  # fmt: skip
    assert input_settings("cnn1d", signals) == {"num_classes": 10, "in_channels": 1, "length": 40}
    with pytest.raises(InputError, match=r"1 x 40 pixels and resnet20 .* use cnn1d or mlp"):
        input_settings("resnet20", signals)


def test_a_missing_package_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(module, *args, **kwargs):
        if module.split(".")[0] == "mnist1d":
            raise ImportError(module)
        return real(module, *args, **kwargs)

    _signals.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r'pip install "mpnn-arch\[mnist1d\]"'):
        load_dataset("mnist1d")
