"""The documentation site: Sphinx over these pages, the lessons and the docstrings.

    sphinx-build -n -W --keep-going -b html notebooks build/site

Sphinx, because the docstrings are written in its markup, as PyTorch's and PyG's are: with ``-n`` it
checks every reference in them. Nothing is downloaded, neither when building nor when reading.
Lessons without outputs are executed (``MPNN_ARCH_QUICK=1``: in their quick setting).
"""

import json
import os
import sys
import warnings
from pathlib import Path

PAGES = Path(__file__).parent
sys.path.insert(0, str(PAGES / "_ext"))
warnings.filterwarnings("ignore", message=r"`torch\.jit")

import mpnn_arch

project = "mpnn_arch"
author = "the authors of mpnn_arch"
version = release = mpnn_arch.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_click",
    "sphinx_copybutton",
    "docstrings",
    "generated",
    "links",
    "mathml",
    "public_names",
]
exclude_patterns = ["_*", "**/.ipynb_checkpoints", ".jupyter_cache", "jupyter_execute"]
# Annotations of classes that are imported for type checkers alone.
nitpick_ignore = [("py:class", name) for name in ("nx.Graph", "Axes", "Figure", "t.Any")]

html_theme = "furo"
html_title = "mpnn_arch"
html_show_sphinx = False
html_math_renderer = "mathml"
html_static_path = ["_ext/static"]
html_js_files = ["reach.js"]


def has_outputs(path: Path) -> bool:
    """Whether a lesson was executed, if not every cell of it printed something."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return any(cell.get("outputs") for cell in cells)


myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_excludepatterns = [path.name for path in PAGES.glob("*.ipynb") if has_outputs(path)]
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"
# What a cell draws is described by the text around it; without this, its alt text is a file's name.
nb_render_image_options = {"alt": "What the code above draws"}
# A backend without a screen, as tests set it, would leave the lessons without pictures.
os.environ.pop("MPLBACKEND", None)
# A widget needs Python; beside it a lesson has its picture.
nb_mime_priority_overrides = [("*", "application/vnd.jupyter.widget-view+json", None)]
nb_ipywidgets_js = {}  # by default a link to a server of others

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shapes", "Shape"]
copybutton_exclude = ".linenos, .gp, .go"
