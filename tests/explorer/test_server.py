"""The page: served on this machine alone, behind a token; driven in a browser."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from mpnn_arch import InputError
from mpnn_arch.cli import cli
from mpnn_arch.explorer import server
from mpnn_arch.explorer.waiting import STARTING, WaitingPage

CYCLE = b"0 1\n1 2\n2 3\n3 0\n"


def test_a_port_in_use_is_said():
    with socket.socket() as other:
        other.bind((server.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be used"):
            server.free_port(port)


def test_a_missing_package_is_named_with_the_line_to_type(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "marimo" else found(name)
    )
    result = CliRunner().invoke(cli, ["explore", "--no-browser"])
    assert isinstance(result.exception, InputError)
    assert 'pip install "mpnn-arch[explorer,demo]"' in str(result.exception)


def answer(address):
    with urllib.request.urlopen(address, timeout=60) as found:
        return found.read(), found.headers


def test_the_waiting_page_has_the_front_end_fetched_and_hands_its_port_over():
    port = server.free_port(None)
    base = f"http://{server.HOST}:{port}"
    waiting = WaitingPage(server.HOST, port)
    try:
        with pytest.raises(InputError, match=f"port {port} cannot be used"):
            server.free_port(port)
        page = answer(f"{base}/?access_token=abc")[0].decode()
        assert "A layer is a round" in page
        assert "abc" not in page
        assert answer(f"{base}/health")[0] == STARTING
        for elsewhere in ("/assets/../index.html", "/assets/no.js", "/etc/passwd"):
            assert answer(base + elsewhere)[0].decode() == page
        links = re.findall(r'<link [^>]*href="[.](/assets/[^"]+)"', page)
        if importlib.util.find_spec("marimo"):
            assert len(links) > 50
        for link in links:
            body, headers = answer(base + link)
            assert len(body) == int(headers["Content-Length"]) > 0
            assert headers["Cache-Control"] == "max-age=86400"
            if link.endswith(".js"):
                assert headers["Content-Type"] == "text/javascript"
    finally:
        with waiting.hand_over() as listening:
            socket.create_connection((server.HOST, port), timeout=2).close()  # is not refused
            listening.accept()[0].close()
    assert server.free_port(port) == port


def test_a_server_that_ends_at_once_is_said(monkeypatch):
    pytest.importorskip("marimo", reason="marimo is not installed")
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(InputError, match="ended with exit code 1 before it listened at port"):
        server.start(show=False)


@pytest.mark.slow
def test_the_server_ends_with_the_program_that_started_it():
    pytest.importorskip("marimo", reason="marimo is not installed")
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    address, process = server.start(show=False)
    token = address.partition("access_token=")[2]
    listed = Path(f"/proc/{process.pid}/cmdline")
    if listed.exists():
        wait_for_the_page(address)
        assert b"mpnn_arch.explorer.serve" in listed.read_bytes()
        assert token.encode() not in listed.read_bytes()
    process.stdin.close()
    process.wait(60)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_the_page_without_a_traceback():
    pytest.importorskip("marimo", reason="marimo is not installed")
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    command = [sys.executable, "-m", "mpnn_arch", "explore", "--no-browser"]
    program = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    address = re.fullmatch(r"the page is at (http://\S+)\n", program.stdout.readline())[1]
    assert program.stdout.readline() == "Ctrl-C ends it\n"
    wait_for_the_page(address)
    os.killpg(program.pid, signal.SIGINT)
    assert program.communicate(timeout=60)[0] == ""
    assert program.returncode == 0
    with pytest.raises(OSError):
        answer(address)


def wait_for_the_page(address):
    base = address.split("?")[0]
    for _ in range(1200):
        if answer(f"{base}health")[0] != STARTING:  # at no time is a connection refused
            return
        time.sleep(0.1)
    raise AssertionError("marimo does not answer")


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("marimo", reason="marimo is not installed")
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    address, process = server.start(show=False)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_without_the_token_nothing_is_shown(address):
    base = address.split("?")[0]
    assert base.startswith("http://127.0.0.1:")
    wait_for_the_page(address)
    try:
        shown = urllib.request.urlopen(base, timeout=30)
    except urllib.error.HTTPError as refused:
        assert refused.code in (401, 403)  # noqa: PT017
    else:
        assert "/auth/login" in shown.url
    port = int(re.search(r":(\d+)/", base)[1])
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    for host in others - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((host, port), timeout=2).close()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(1800)
def test_the_page_in_a_browser(address, browser, serious_faults):
    from playwright.sync_api import expect

    expect.set_options(timeout=180_000)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(180_000)
    page.goto(address)
    page.locator('[data-page="starting"]').wait_for(state="detached")
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and faults.append(said.text))
    edges = page.locator('[data-fact="edges"]')
    expect(edges).to_have_text("32", timeout=180_000)  # its process imports torch first
    # Choose a family; a graph that cannot be is answered on the page, which goes on.
    source = page.get_by_label("Graph", exact=True).first
    page.get_by_label("Family", exact=True).first.select_option("tree")
    expect(edges).to_have_text("15")
    source.select_option("a file of my own")
    upload = page.locator('input[type="file"]').first
    upload.set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": b"no,graph\n1,2\n"})
    said = page.get_by_text("contains a value that is not a number").first
    expect(said).to_be_visible()
    place = said.bounding_box()
    assert place["x"] + place["width"] <= 1280  # it takes as many lines as it needs
    upload.set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": CYCLE})
    expect(edges).to_have_text("4")
    source.select_option("any graph or published list, by name")
    box = page.get_by_role("textbox").first
    bad = {
        "blob:3": "'blob:3' is",
        "er:16,3": "num_edges is between",
        "ring:2000,2": "more than a page can draw",
    }
    for text, answer in bad.items():
        box.fill(text)
        box.press("Enter")
        expect(page.get_by_text(answer).first).to_be_visible()
    box.fill("ring:8,4")
    box.press("Enter")
    expect(edges).to_have_text("16")
    # The address holds the choice: a reload, and a link, show it.
    page.get_by_label("Channels", exact=True).first.select_option("16")
    expect(page).to_have_url(re.compile("graph=ring%3A8%2C4.*channels=16"))
    page.reload()
    expect(edges).to_have_text("16")
    expect(page.get_by_label("Family", exact=True).first).to_have_value("ring")
    expect(page.get_by_label("Channels", exact=True).first).to_have_value("16")
    # Step the round, and hover a node: all three views light.
    page.click('[data-step="start"]')
    page.click('[data-step="message"]')
    expect(page.locator(".mr-step-text")).to_have_text("step 1 of 48: message 0 → 0")
    page.locator('.mr-node[data-node="3"]').hover()
    for view in ("graph", "matrix", "equation"):
        expect(page.locator(f'[data-view="{view}"]')).to_have_attribute("data-lit", "node:3")
    # What was chosen for the training stays when the graph changes.
    data = page.get_by_label("Data", exact=True).first
    data.select_option("mnist5k")
    # Toggle an edge in the drawing and one in the matrix, swap AGG; the plane, the code and a
    # fresh process follow.
    page.click('[data-action="edit"]')
    page.locator('.mr-node[data-node="1"]').hover()
    page.mouse.down()
    page.locator('.mr-node[data-node="5"]').hover()
    page.mouse.up()
    expect(edges).to_have_text("17")
    page.click('[data-action="edit"]')
    page.locator('[data-view="matrix"] svg').focus()
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("t")
    expect(edges).to_have_text("18")
    page.select_option('[data-trait="aggr"]', "max")
    expect(data).to_have_value("mnist5k")
    data.select_option("digits")
    code = page.get_by_text("import torch").first
    expect(code).to_contain_text("toggled=[[1, 5], [0, 4]]")
    expect(code).to_contain_text("aggr='max'")
    expect(code).to_contain_text("step=1")
    clustering = page.locator('[data-fact="clustering_coefficient"]').inner_text()
    expect(page.get_by_text(f"this graph: C = {clustering}").first).to_be_attached()
    script = code.inner_text() + "\nprint(widget.scene['facts']['multiply_adds'], widget.step)"
    made = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    shown = page.locator('[data-fact="multiply_adds"]').inner_text()
    assert made.stdout.split() == [shown.replace(",", ""), "1"]
    # Train for a moment, and stop.
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_text(re.compile(r"training: [1-9]\d* of 60 epochs")).first).to_be_visible(
        timeout=400_000
    )
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text(re.compile("(stopped|finished): ")).first).to_be_visible()
    assert faults == []
    assert serious_faults(page) == []
    page.close()
