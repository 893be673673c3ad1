"""What a shell completes, and that it imports nothing heavy."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from mpnn_arch.cli import completion

CASES = [
    (["train", "--model", "resnet3"], ["resnet34", "resnet34_sep"]),
    (["compare", "--dataset", "m"], ["mnist1d", "mnist5k"]),
    (["sweep", "--recipe", "mlp_m"], ["mlp_mnist1d", "mlp_mnist5k"]),
    (["compare", "--message", "linear,low"], ["linear,low_rank"]),
    (["train", "--aggr", "sum,mea"], ["sum,mean"]),
    (["train", "--aggr", "mean+ma"], ["mean+max"]),
    (["train", "--backend", "ma"], ["masked"]),
    (["sweep", "--graphs", "ws"], ["ws:", "ws_flex:"]),
    (["bench", "-g", "sam"], ["sample:"]),
    (["verify", "--graph", "comp"], ["complete:"]),
    (["models", "v"], ["vgg11", "vit"]),
    (["graphs", "make", "hyp"], ["hypercube:"]),
    (["graphs", "measure", "-m", "degree_m"], ["degree_max", "degree_mean", "degree_min"]),
    (["gnn", "--model", "gcn,sa"], ["gcn,sage", "gcn,sage_max"]),
    (["train", "--set", "label"], ["label_smoothing="]),
    (["train", "--weights", ""], ["all", "best", "none"]),
    (["replay", "folder", "3", "--device", "c"], ["cpu", "cuda"]),
    (["com"], ["compare"]),
]


def complete(shell, words, index):
    """The lines that ``mpnn-arch`` answers a shell with, and the heavy modules that it loaded."""
    variables = {
        "bash": {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(index)},
        "zsh": {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(index)},
        "fish": {"COMP_WORDS": " ".join(words), "COMP_CWORD": words[-1]},
    }[shell]
    environment = {**os.environ, **variables, "_MPNN_ARCH_COMPLETE": f"{shell}_complete"}
    code = (
        "import json, sys\n"
        "from mpnn_arch.cli import main\n"
        "try:\n"
        "    main([])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(json.dumps(sorted({'torch', 'numpy', 'networkx'} & set(sys.modules))))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    *lines, heavy = ran.stdout.splitlines()
    return lines, json.loads(heavy)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_values_are_completed_without_importing_torch(shell):
    words = ["mpnn-arch", "train", "--model", "resnet3"]
    lines, heavy = complete(shell, words, 3)
    assert any("resnet34_sep" in line for line in lines)
    assert not heavy


@pytest.mark.parametrize(("words", "expected"), CASES, ids=lambda case: " ".join(case))
def test_what_is_completed(words, expected):
    from click.shell_completion import ShellComplete

    from mpnn_arch.cli import cli

    shell = ShellComplete(cli, {}, "mpnn-arch", "_MPNN_ARCH_COMPLETE")
    *before, incomplete = words
    assert [item.value for item in shell.get_completions(before, incomplete)] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell):
    ran = subprocess.run(
        [sys.executable, "-m", "mpnn_arch"],
        env={**os.environ, "_MPNN_ARCH_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    if shell == "bash" and "Couldn't detect Bash version" in ran.stderr:
        pytest.skip("there is no bash of version 4.4 or newer")
    assert "_MPNN_ARCH_COMPLETE=" in ran.stdout


def test_the_names_are_those_of_the_registries():
    from mpnn_arch.graphs import list_measures
    from mpnn_arch.graphs.generators import GENERATORS
    from mpnn_arch.graphs.spec import SOURCES
    from mpnn_arch.kernels import backends
    from mpnn_arch.models import MODELS
    from mpnn_arch.models.init import INITS
    from mpnn_arch.rounds.aggregations import aggregations
    from mpnn_arch.rounds.gnn import gnn_layers
    from mpnn_arch.rounds.messages import message_functions
    from mpnn_arch.studies.config import Weights
    from mpnn_arch.training import DATASETS
    from mpnn_arch.training.config import TrainingConfig
    from mpnn_arch.training.recipes import RECIPES

    for names, known in (
        (completion.MODELS, MODELS),
        (completion.DATASETS, DATASETS),
        (completion.RECIPES, RECIPES),
        (completion.MESSAGES, message_functions),
        (completion.AGGREGATIONS, aggregations),
        (completion.BACKENDS, {*backends.names(), "auto", "reference"}),
        (completion.FAMILIES, GENERATORS),
        ((*completion.FAMILIES, *completion.SOURCES), {*GENERATORS, *SOURCES}),
        (completion.MEASURES, list_measures()),
        (completion.GNN_LAYERS, gnn_layers),
        (completion.INITS, INITS),
        (completion.SETTINGS, [field.name for field in dataclasses.fields(TrainingConfig)]),
        (completion.WEIGHTS, Weights.__args__),
    ):
        assert sorted(names) == sorted(known)
