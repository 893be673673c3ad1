"""The Python of the README and of the pages runs as written, each block by itself, and prints
what it says."""

import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch_geometric.nn import MessagePassing

from mpnn_arch import MessageRound, graphs, models
from mpnn_arch.rounds.shares import merge_shares, split_shares

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# extending.md has a test of its own, in which the blocks of a recipe follow each other.
PAGES = [
    "equation",
    "findings",
    "from_pyg",
    "from_the_papers_code",
    "graphs",
    "models",
    "speed",
    "studies",
    "swap",
    "training",
    "widget",
]


def blocks(path):
    """The blocks of Python in a page."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)


BLOCKS = [
    (path.name, place, code)
    for path in [README, *(ROOT / "notebooks" / f"{page}.md" for page in PAGES)]
    for place, code in enumerate(blocks(path))
]
EQUATION = [code for _, _, code in BLOCKS if "class MessageRound" in code]
# `print(...)  # (144, 286)`: what is printed, where it is a plain value.
PRINTED = re.compile(r"^print\(.*\)  # ([(\[\d'\"].*)$", re.M)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=f"{page}-{place}")
        for page, place, code in BLOCKS
        if code not in EQUATION
    ],
)
def test_a_block_runs_by_itself(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    output, module = StringIO(), ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)  # PyG reads that of every class
    with redirect_stdout(output):
        exec(compile(code, "README.md", "exec"), vars(module))
    for promised in PRINTED.findall(code):
        assert promised in output.getvalue()


def test_every_page_has_a_block_and_some_output_is_promised():
    assert {page for page, _, _ in BLOCKS} == {"README.md", *(f"{page}.md" for page in PAGES)}
    assert sum(bool(PRINTED.search(code)) for _, _, code in BLOCKS) > 5


def test_the_readme_begins_with_a_dense_layer_as_a_round():
    first, *_ = README.read_text(encoding="utf-8").split("\n## ")
    assert "load_state_dict(dense.state_dict())" in first
    assert "assert_close(layer(x), dense(x))" in first


def test_the_papers_runs_are_trained_by_their_recipes():
    page = (ROOT / "notebooks" / "from_the_papers_code.md").read_text(encoding="utf-8")
    commands = re.findall(r"`(mpnn-arch (?:train|sweep) [^`]*)`", page)
    assert len(commands) > 2
    assert all("--recipe mlp_cifar10" in command for command in commands)


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(((?!http)[^)]+)\)", README.read_text(encoding="utf-8"))
    assert len(links) > 10
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_equation_is_the_round():
    (code,) = EQUATION
    namespace = {
        "MessagePassing": MessagePassing,
        "split_shares": split_shares,
        "merge_shares": merge_shares,
    }
    exec(compile(code, "README.md", "exec"), namespace)
    generator = torch.Generator().manual_seed(0)
    graph = graphs.parse_one("ws_flex:8,4,0.2,0")
    layer = MessageRound(
        graph, 20, 20, norm=nn.Identity(), activation=nn.Tanh(), generator=generator
    )
    slide = namespace["MessageRound"].__new__(namespace["MessageRound"])
    MessagePassing.__init__(slide, "sum", node_dim=0)
    for name in ("edge_index", "message_function", "aggregate_shares", "bias", "norm"):
        slide.__dict__[name] = getattr(layer, name)
    slide.__dict__["plan"], slide.__dict__["activation"] = layer.plan, layer.activation
    x = torch.randn(5, 20, generator=generator)
    dense = x @ layer.message_function.dense_weight().T + layer.bias
    torch.testing.assert_close(slide(x), dense.tanh())
    assert torch.equal(slide(x), layer(x))


@pytest.mark.parametrize("page", ["README.md", "notebooks/training.md"])
def test_the_table_of_train_has_the_models_costs(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    row = r"^(\S+:\S+) +(\d\.\d\d) (\d\.\d\d) +(\d+) ([\d,]+) ([\d,]+) "
    costs = []
    for spec, c, length, width, parameters, multiply_adds in re.findall(row, text, re.MULTILINE):
        graph = graphs.parse_one(spec)
        model = models.build("mlp", graph, in_features=784)
        cost = models.complexity(model)
        shown = (f"{graph.clustering_coefficient:.2f}", f"{graph.average_path_length:.2f}")
        assert (c, length) == shown
        assert int(width) == model.widths[0]
        assert (parameters, multiply_adds) == (f"{cost.parameters:,}", f"{cost.multiply_adds:,}")
        less = model.model_config.multiply_adds([model.widths[0] - 1], model.graphs)
        costs.append((cost.multiply_adds, less))
    (own, less), (dense, _) = costs
    said = f"to {own / dense - 1:.3%}; one channel less would be {1 - less / dense:.2%} too few"
    assert said.replace("%", " %") in text.replace("\n", " ")
