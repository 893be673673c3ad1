"""Imports ``torch_geometric.nn`` without the warning that its import raises.

PyG compiles two functions with ``torch.jit.script`` when it is imported, of which newer versions of
torch say that it is deprecated; a user can do nothing about it. The packages that use
``torch_geometric.nn`` import this module first.

``warnings.catch_warnings`` changes the filters of all threads. So they are changed once in a
process, only during this import (which Python lets one thread do), and not at all where PyG has
been imported already; a filter that another thread sets meanwhile is lost.
"""

import importlib
import sys
import warnings

if "torch_geometric.nn" not in sys.modules:
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`torch\.jit", category=kind)
        importlib.import_module("torch_geometric.nn")
