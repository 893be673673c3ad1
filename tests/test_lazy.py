"""Parsing the command line loads nothing heavy."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torch_geometric", "torchvision", "numpy", "networkx", "matplotlib", "pandas")


def modules_after(code):
    """Top-level modules that are loaded when ``code`` has run in a fresh interpreter."""
    names = "{name.split('.')[0] for name in sys.modules}"
    tell = f"import json, sys; print(); print(json.dumps(sorted({names})))"
    made = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(made.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_after("import mpnn_arch; dir(mpnn_arch)") & set(HEAVY)


def test_help_of_every_command_loads_nothing_heavy():
    from mpnn_arch.cli import COMMANDS

    assert COMMANDS
    arguments = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    code = f"""
from mpnn_arch.cli import main
for arguments in {arguments!r}:
    try:
        main(arguments)
    except SystemExit as stop:
        assert stop.code in (0, None), arguments
"""
    assert not modules_after(code) & set(HEAVY)


@pytest.mark.parametrize("name", ["RelationalGraph", "ChannelPartition", "training"])
def test_a_name_loads_when_it_is_used(name):
    import mpnn_arch

    assert name in dir(mpnn_arch)
    assert getattr(mpnn_arch, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    import mpnn_arch

    with pytest.raises(AttributeError, match="nonsense"):
        mpnn_arch.nonsense  # noqa: B018
