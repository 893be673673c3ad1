"""The page on what differs from torch's layers runs as it is written, each block by itself."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[1] / "notebooks" / "differences.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def test_every_block_is_python():
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * len(BLOCKS) > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("place", range(len(BLOCKS)))
def test_a_block_runs_by_itself(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(BLOCKS[place], f"{PAGE.name}, block {place + 1}", "exec"), {})


def test_the_readme_names_the_page():
    assert "notebooks/differences.md" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
