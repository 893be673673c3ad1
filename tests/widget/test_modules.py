"""The JavaScript modules of the widget, joined into one."""

import re
from collections import Counter

import pytest

from mpnn_arch.widget.modules import STATIC, joined

DECLARED = re.compile(r"^(?:async )?(?:const|let|function|class) (\w+)", re.MULTILINE)


@pytest.mark.parametrize("entry", ["widget.js", "recorded_page.js"])
def test_joined_modules_share_one_scope(entry):
    text = joined(entry)
    assert not re.search(r"^(import|export (?!default))", text, re.MULTILINE)
    counts = Counter(DECLARED.findall(text))
    assert counts["render"] == 1
    assert [name for name, count in counts.items() if count > 1] == []


def test_a_page_has_every_module_and_a_notebook_all_but_those_of_pages():
    modules = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    firsts = {name: text.splitlines()[0] for name, text in modules.items() if name.endswith(".js")}
    page, notebook = joined("recorded_page.js"), joined("widget.js")
    assert [name for name, line in firsts.items() if page.count(line) != 1] == []
    absent = [name for name, line in firsts.items() if line not in notebook]
    assert sorted(absent) == ["recorded_model.js", "recorded_page.js"]
