"""No package warns when it is imported, whatever the filters, and none leaves a filter behind."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rounds", "models", "training.nodes", "widget"])
def test_an_import_is_quiet_where_warnings_are_errors(name):
    code = f"""
import warnings
import torch
warnings.simplefilter("error", FutureWarning)
warnings.simplefilter("error", DeprecationWarning)
import mpnn_arch.{name}
assert "torch_geometric.nn" in __import__("sys").modules
assert not [f for f in warnings.filters if f[1] and f[1].pattern.startswith("`torch")]
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
