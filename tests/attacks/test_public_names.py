"""Every public name, given nothing that it takes: an ``InputError`` of one line, or a result."""

import importlib
import inspect

import numpy as np
import pandas as pd
import pytest
import torch

from mpnn_arch import InputError, RelationalLinear, graphs
from mpnn_arch.analysis import design_of, learned_graph
from mpnn_arch.training import ImageDataset, Trainer, TrainingConfig
from mpnn_arch.widget import RoundWidget, draw_round, record

PACKAGES = [
    f"mpnn_arch{name}"
    for name in (
        "",
        ".graphs",
        ".models",
        ".rounds",
        ".training",
        ".analysis",
        ".studies",
        ".widget",
    )
]
WRONG = [
    None,
    -1,
    1.5,
    "nonsense",
    "",
    [],
    {},
    object(),
    b"x",
    (1, 2, 3),
    10**30,
    np.zeros(3),
    torch.zeros(2, 2),
]


def public(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        is_error = inspect.isclass(value) and issubclass(value, BaseException)
        if callable(value) and not is_error and not inspect.isabstract(value):
            yield name, value


def refusal_of(function, **arguments):
    """The message of the error, None where there is a result; no other error is allowed."""
    try:
        function(**arguments)
    except InputError as refusal:
        return str(refusal)
    except Exception as error:
        raise AssertionError(f"{function.__name__}({arguments!r}): {error!r}") from error
    return None


def required(function):
    """The arguments that it has to be given."""
    return [
        one.name
        for one in inspect.signature(function).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_value_for_all_that_is_required(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPNN_ARCH_DATA", str(tmp_path))
    tried = 0
    for name, function in public(package):
        names = required(function)
        if not names:
            continue
        for value in WRONG:
            message = refusal_of(function, **dict.fromkeys(names, value))
            assert message is None or 15 < len(message) < 700, (name, value)
            assert "\n" not in (message or ""), (name, value)
            tried += 1
    assert tried > 10


def results(num_graphs=20, seeds=3):
    """A table of made-up errors of graphs on a ring, and of the complete graph."""
    rows = []
    for number in range(num_graphs):
        graph = graphs.ws_flex(16, 4 + number / 4, 0.2, seed=number)
        spec = f"ws_flex:16,{4 + number / 4},0.2,{number}"
        c, length = graph.clustering_coefficient, graph.average_path_length
        for seed in range(seeds):
            error = 30 + c + length + 0.1 * ((7 * number + 3 * seed) % 5)
            rows.append(("made", spec, 16, graph.density, 0.2, number, c, length, seed, 0, error))
    for seed in range(seeds):
        rows.append(("made", "complete:16", 16, 1.0, 0.0, 0, 1.0, 1.0, seed, 0, 33 + 0.1 * seed))
    names = "results graph num_nodes density rewiring_probability graph_seed clustering_coefficient"
    return pd.DataFrame(
        rows, columns=[*names.split(), "average_path_length", "train_seed", "epoch", "error"]
    )


TABLE = results()
ANALYSES = [
    (name, function)
    for name, function in public("mpnn_arch.analysis")
    if required(function) in (["table"], ["first", "second"], ["design"])
    # Those of numbers, and of a table of another kind.
    and name not in ("correlate", "effect", "compare_families", "structure_slopes")
]


@pytest.mark.parametrize(("name", "function"), ANALYSES, ids=[name for name, _ in ANALYSES])
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_value_for_one_option_of_an_analysis(name, function):
    given = {"table": TABLE, "first": TABLE, "second": TABLE, "design": design_of(TABLE)}
    good = {key: given[key] for key in required(function)}
    for option in set(inspect.signature(function).parameters) - set(good):
        for value in (-1, "nonsense", object(), np.zeros(3), torch.zeros(2, 2), 10**30):
            message = refusal_of(function, **good, **{option: value})
            assert "\n" not in (message or ""), (option, value)


@pytest.mark.parametrize("option", ["x", "seed", "sample", "round_index", "step", "selected"])
def test_a_wrong_value_for_one_option_of_a_picture(option):
    layer = RelationalLinear(graphs.ring(4, 2), 8, 8)
    for value in WRONG:
        message = refusal_of(draw_round, layer_or_model=layer, **{option: value})
        assert message is None or option in message or option == "x", value
        assert "\n" not in (message or ""), value
        if option == "seed":
            refusal_of(RoundWidget, layer_or_model=layer, seed=value)


@pytest.mark.parametrize("column", ["graph", "error", "train_seed", "clustering_coefficient"])
@pytest.mark.parametrize(("name", "function"), ANALYSES, ids=[name for name, _ in ANALYSES])
def test_a_table_without_a_column(name, function, column):
    if required(function) == ["design"]:
        function = design_of
    lacking = TABLE.drop(columns=column)
    with pytest.raises(InputError, match=f"no column '{column}'"):
        function(*[lacking] * len(required(function)))


def test_the_message_says_what_to_give():
    layer = RelationalLinear(graphs.ring(8, 2), 16, 16)
    images, labels = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    parts = {"test_images": images, "test_labels": labels, "num_classes": 2, "name": "made"}
    dataset = ImageDataset(train_images=images, train_labels=labels, **parts)
    config, generator = TrainingConfig(epochs=1), torch.Generator()
    cases = [
        (lambda: record(layer, [[1.0]]), "x is a Tensor"),
        (lambda: learned_graph(5, 4), "model is a list, not 5"),
        (lambda: Trainer(layer, "digits", config, generator=generator), "load_dataset"),
        (lambda: Trainer(layer, dataset, "fast", generator=generator), "TrainingConfig"),
        (
            lambda: Trainer(layer, dataset, config, generator=0),
            "a generator is a torch.Generator, not 0",
        ),
        (lambda: Trainer("mlp", dataset, config, generator=generator), "mpnn_arch.models.build"),
        (
            lambda: ImageDataset(train_images=images.numpy(), train_labels=labels, **parts),
            "convert it with torch.as_tensor",
        ),
    ]
    for call, words in cases:
        with pytest.raises(InputError, match=words):
            call()
