"""One flag means one thing in every command."""

import click
import pytest

from mpnn_arch.cli import COMMANDS, cli
from mpnn_arch.cli.numbers import StrictNumber, StrictPath


def commands():
    """Every command and subcommand by its name."""
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in COMMANDS}
    for inner in found["graphs"].commands.values():
        found[f"graphs {inner.name}"] = inner
    return found


def uses():
    """For every flag the options that it belongs to, by command."""
    found = {}
    for name, command in commands().items():
        for option in command.params:
            for flag in getattr(option, "opts", ()):
                if flag.startswith("--"):
                    found.setdefault(flag, {})[name] = option
    return found


def kind(option):
    strict = isinstance(option.type, StrictNumber | StrictPath)
    return type(option.type.inner if strict else option.type).__name__


@pytest.mark.parametrize(
    "flag",
    ["--graphs", "--seeds", "--device", "--threads", "--dataset", "--data-root", "--trust",
     "--workers", "--resume", "--weights", "--recipe", "--set", "--message", "--aggr"],
)  # fmt: skip
def test_a_flag_has_one_type_and_one_text(flag):
    found = uses()[flag]
    if flag == "--workers":  # of a sweep over the design space, which trains nothing
        found = {name: option for name, option in found.items() if name != "graphs sample"}
    texts = {
        (option.help or "").partition("  [default")[0].partition(" [default")[0]
        for option in found.values()
    }
    assert len(texts) == 1, texts
    assert len({(kind(option), option.multiple, option.is_flag) for option in found.values()}) == 1


def test_graphs_are_given_by_one_flag_with_its_old_name_beside_it():
    found = uses()
    assert set(found["--graphs"]) == {"models", "bench", "train", "compare", "verify", "sweep"}
    assert found["--graph"] == found["--graphs"]


def test_out_is_a_place_to_write():
    for name, option in uses()["--out"].items():
        assert isinstance(option.type, StrictPath), name


@pytest.mark.parametrize(
    "arguments",
    [("status", ""), ("report", "x.csv", "--out", ""), ("graphs", "sample", "--out", "")],
)
def test_an_empty_path_is_not_this_folder(run, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert "the path is empty" in err
    assert not list(tmp_path.iterdir())


def test_train_compare_and_sweep_take_the_same_options():
    found = commands()
    flags = [
        {flag for option in found[name].params for flag in option.opts}
        for name in ("train", "compare", "sweep")
    ]
    assert flags[0] == flags[1]
    assert flags[2] - flags[0] == {"--race", "--keep", "--report"}
    assert flags[0] <= flags[2]
