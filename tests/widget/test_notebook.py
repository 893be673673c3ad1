"""The widget in JupyterLab: what a reader does reaches Python, and what Python sets is drawn.

JupyterLab opens a notebook before it has a kernel for it, and a cell that is run in between is lost
or answered by a dialog. So the test waits until the status bar says that the kernel is idle, runs
each cell once, and waits for its number.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("anywidget", reason="the widget's extra is not installed")
pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
nbformat = pytest.importorskip("nbformat")
pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.jupyter]

TOKEN = "of-this-test"
WAIT = 180_000  # ms, for a kernel that imports torch on a busy machine
SHOW = """
from mpnn_arch import RelationalLinear, graphs
from mpnn_arch.widget import RoundWidget

widget = RoundWidget(RelationalLinear(graphs.ring(8, 4), 32, 33, activation="relu"))
widget
"""
ANSWER = """
print("read", widget.step, widget.toggled, widget.layer.graph.num_edges)
widget.step, widget.aggr = 7, "max"
"""


@pytest.fixture
def lab(tmp_path):
    """The address of a server on 127.0.0.1 that ends with the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (SHOW, ANSWER)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "round.ipynb")
    home = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    # The question about news would lie over the page.
    page_config = tmp_path / "CONFIG" / "labconfig" / "page_config.json"
    page_config.parent.mkdir(parents=True)
    news = "@jupyterlab/apputils-extension:announcements"
    page_config.write_text(json.dumps({"disabledExtensions": {news: True}}))
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={TOKEN}"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={tmp_path}"],
            stdout=log,
            stderr=log,
            env=os.environ | home | {"PYTHONPATH": path},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(480):
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.25)
        yield f"{address}/lab/tree/round.ipynb?token={TOKEN}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def expect(browser):
    """Playwright's ``expect``, patient in this test alone."""
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT)
    yield expect
    expect.set_options(timeout=5000)


def test_the_widget_in_jupyterlab(browser, lab, expect):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(WAIT)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(lab)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.first.wait_for()

    def run(cell):
        """Run a cell once, and wait until it is done."""
        cells.nth(cell).locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        number = re.compile(r"\[\d+\]:")
        expect(cells.nth(cell).locator(".jp-InputPrompt").first).to_have_text(number)

    # The kernel has a name and has answered: only now does JupyterLab keep what is run.
    expect(page.locator("#jp-main-statusbar").get_by_text("| Idle")).to_be_visible()
    run(0)
    page.locator(".mr[data-theme]").wait_for()
    page.click('[data-step="start"]')
    page.click('[data-step="node"]')
    page.locator('[data-view="matrix"] svg').focus()
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("t")
    expect(page.locator('[data-fact="edges"]')).to_have_text("17")
    run(1)
    expect(page.locator(".jp-OutputArea-output pre").last).to_have_text("read 6 [[0, 4]] 17\n")
    expect(page.locator(".mr-step-text")).to_have_text("step 7 of 50: node 0 updates")
    expect(page.locator(".mr-output")).to_contain_text("No dense layer to compare with")
    assert faults == []
    page.close()
