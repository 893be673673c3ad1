"""The exported page in a browser: three linked views, steps, toggles, links, and no fault."""

import re

import pytest
import torch
from torch import nn

from mpnn_arch import RelationalConv2d, RelationalLinear, graphs

pytest.importorskip("anywidget", reason="the widget's extra is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from mpnn_arch.widget import RoundWidget, record  # noqa: E402

pytestmark = pytest.mark.browser
expect = sync_api.expect
VIEWS = ("graph", "matrix", "equation")


@pytest.fixture
def visit(browser):
    """Open a page; at the end, no page asked the network for anything or wrote an error."""
    faults, contexts = [], []

    def visit(path, link="", **kwargs):
        contexts.append(
            browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | kwargs)
        )
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:")) or faults.append(request.url)
            ),
        )
        page.goto(f"{path.as_uri()}{link}")
        page.wait_for_selector(".mr[data-theme]")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="module")
def page_of_a_ring(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "ring.html"
    layer = RelationalLinear(graphs.ring(8, 4), 32, 33, activation="relu", backend="masked")
    widget = RoundWidget(layer)
    widget.export_html(path)
    return path, widget


def fact(page, name):
    return page.locator(f'[data-fact="{name}"]').inner_text()


def node(page, v):
    return page.locator(f'.mr-node[data-node="{v}"]')


def lit(page):
    return [page.locator(f'[data-view="{view}"]').get_attribute("data-lit") for view in VIEWS]


def test_hovering_a_node_lights_all_three_views(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0])
    assert page.locator(".mr-band, .mr-node.is-lit, .mr-halo").count() == 0
    node(page, 3).hover()
    page.wait_for_selector(".mr-node.is-lit")
    assert lit(page) == ["node:3"] * 3
    assert node(page, 3).evaluate("one => one.classList.contains('is-lit')")
    assert page.locator(".mr-node.is-near").count() == 5
    assert page.locator(".mr-band.is-row").count() == 1
    assert page.locator(".mr-halo").count() == 5
    equation = page.locator('[data-view="equation"]')
    assert "Node 3 holds 4 of 32 channels and receives 5 messages" in equation.inner_text()
    assert equation.locator("[data-edge]").count() == 5


def test_what_is_not_finite_is_said_and_the_rest_keeps_its_scale(visit, tmp_path):
    layer = RelationalLinear(graphs.ring(4, 2), 8, 8)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.zero_()
        layer.bias[2:5] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    widget = RoundWidget(layer, torch.ones(1, 8))
    widget.export_html(tmp_path / "round.html")
    page = visit(tmp_path / "round.html")
    for v, rows in ((1, ["\u221e", "\u2212\u221e"]), (2, ["n/a", "3.00"])):
        node(page, v).hover()
        page.wait_for_selector(f".mr-node[data-node='{v}'].is-lit")
        last = page.locator('[data-view="equation"] .mr-line', has_text="\u03c3(\u2026)")
        expect(last.locator(".mr-cell")).to_have_text(rows)
    fills = last.locator(".mr-cell").evaluate_all("all => all.map(one => one.style.background)")
    assert fills == ["rgb(128, 128, 128)", "rgb(153, 61, 0)"]  # the largest number is finite


def test_a_message_that_is_not_finite_is_as_wide_as_the_widest(visit, tmp_path):
    layer = RelationalLinear(graphs.ring(4, 2), 4, 4)
    with torch.no_grad():
        layer.weight.fill_(1.0)[1] = torch.inf
        layer.weight[2] = torch.nan
    RoundWidget(layer, torch.ones(1, 4)).export_html(tmp_path / "round.html")
    page = visit(tmp_path / "round.html")
    node(page, 0).hover()
    widths = page.locator(".mr-lit-edge").evaluate_all(
        "all => all.map(one => one.getAttribute('stroke-width'))"
    )
    assert widths == [widths[0]] * 3
    assert float(widths[0]) < 10


def test_a_page_has_one_first_heading(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0])
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("One round of message exchange")


def test_one_node_has_one_message_and_no_paths(visit, tmp_path):
    path = tmp_path / "one.html"
    RoundWidget(RelationalLinear(graphs.RelationalGraph(1, [[0], [0]]), 3, 3)).export_html(path)
    page = visit(path, "#selected=node:0")
    page.wait_for_selector(".mr-line.is-result")
    assert fact(page, "average_path_length") == "one node"
    assert "receives 1 message;" in page.locator('[data-view="equation"]').inner_text()


def numbers(place):
    return [float(t.replace("\u2212", "-")) for t in place.locator(".mr-cell").all_inner_texts()]


def test_a_message_that_is_no_matrix_is_shown_with_its_numbers(visit, tmp_path, generator):
    layer = RelationalLinear(
        graphs.ring(5, 2), 13, 11, message="edge_mlp", aggr="max", generator=generator
    )
    widget = RoundWidget(layer)
    widget.export_html(tmp_path / "mlp.html")
    page = visit(tmp_path / "mlp.html", "#selected=edge:1-0")
    lines = page.locator('[data-view="equation"] .mr-line')
    expect(lines.locator(".mr-label")).to_have_text(
        ["mean of the message", "x from 1", "message", "max at 0 with it"]
    )
    recording = record(layer, widget._shown.x)[""]
    message = recording.messages[1, :3]  # from 1 to 0
    assert numbers(lines.nth(0)) == pytest.approx([message.mean().item()], abs=0.006)
    assert numbers(lines.nth(1)) == pytest.approx(recording.x[3:6].tolist(), abs=0.006)
    assert numbers(lines.nth(2)) == pytest.approx(message.tolist(), abs=0.006)
    page = visit(tmp_path / "mlp.html", "#selected=node:0")
    equation = page.locator('[data-view="equation"] math')
    expect(equation).to_contain_text(")+b0")  # what AGG takes is in brackets


def test_a_page_says_that_what_is_grey_needs_python(visit, page_of_a_ring, tmp_path):
    page = visit(page_of_a_ring[0])
    expect(page.locator('[data-said="recorded"]')).to_be_visible()
    expect(page.locator('[data-said="recorded"]')).to_contain_text("need Python")
    colours = [
        page.locator(f'[data-action="{name}"]').evaluate("one => getComputedStyle(one).color")
        for name in ("edit", "link")
    ]
    assert colours[0] == colours[1]  # it can be pressed
    RoundWidget(RelationalLinear(graphs.ring(30, 2), 30, 30)).export_html(tmp_path / "30.html")
    page = visit(tmp_path / "30.html")
    expect(page.locator('[data-action="edit"]')).to_be_disabled()
    grey = page.locator('[data-action="edit"]').evaluate("one => getComputedStyle(one).color")
    assert grey != colours[0]


def test_hovering_a_block_lights_its_edge(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0])
    box = page.locator('[data-view="matrix"] svg').bounding_box()
    cell = (box["width"] - 22) / 8
    page.mouse.move(box["x"] + 20 + 1.5 * cell, box["y"] + 20 + 2.5 * cell)  # column 1, row 2
    page.wait_for_selector(".mr-band.is-block")
    assert lit(page) == ["edge:1-2"] * 3
    assert page.locator(".mr-lit-edge").count() == 1
    page.mouse.move(box["x"] + 20 + 1.5 * cell, box["y"] + 20 + 6.5 * cell)
    page.wait_for_selector(".mr-absent-edge")
    assert "no edge from node 1 to node 6" in page.locator('[data-view="equation"]').inner_text()


def test_the_numbers_are_the_layers(visit, page_of_a_ring):
    path, widget = page_of_a_ring
    page = visit(path, "#selected=node:5")
    page.wait_for_selector(".mr-line.is-result")
    shown = page.locator(".mr-line.is-result").nth(1).locator(".mr-cell").all_inner_texts()
    output = widget.layer(widget._shown.x)[0, 21:25].tolist()
    assert [float(text.replace("\u2212", "-")) for text in shown] == pytest.approx(
        output, abs=0.006
    )
    assert float(fact(page, "difference")) == pytest.approx(widget.scene["difference"], rel=0.01)


@pytest.mark.parametrize("scale", [0.01, 0.001])
def test_small_numbers_keep_their_digits_and_fit(visit, tmp_path, generator, scale):
    layer = RelationalLinear(graphs.ring(4, 2), 8, 8, bias=False, generator=generator)
    with torch.no_grad():
        layer.weight.mul_(scale)
    widget = RoundWidget(layer)
    widget.export_html(tmp_path / "round.html")
    page = visit(tmp_path / "round.html", "#selected=node:2")
    cells = page.locator(".mr-line.is-result").nth(1).locator(".mr-cell")
    shown = [float(text.replace("\u2212", "-")) for text in cells.all_inner_texts()]
    output = widget.layer(widget._shown.x)[0].detach()
    assert shown == pytest.approx(output[4:6].tolist(), abs=0.005 * float(output.abs().max()))
    overflows = "cells => cells.some(cell => cell.scrollWidth > cell.clientWidth)"
    assert not page.locator(".mr-cell").evaluate_all(overflows)


def test_the_caption_says_where_not_every_channel_is_drawn(visit, page_of_a_ring, tmp_path):
    caption = '[data-view="graph"] .mr-caption'
    assert "Ticks are channels" in visit(page_of_a_ring[0]).locator(caption).inner_text()
    RoundWidget(RelationalLinear(graphs.ring(4, 2), 160, 160)).export_html(tmp_path / "a.html")
    said = visit(tmp_path / "a.html").locator(caption).inner_text()
    assert "Ticks are up to 32 of a node's channels" in said


@pytest.fixture
def page_of_two_rounds(tmp_path, generator):
    sizes = [graphs.ring(6, 2), graphs.ring(4, 2)]
    net = nn.Sequential(*[RelationalLinear(g, 12, 12, generator=generator) for g in sizes])
    RoundWidget(net, torch.ones(1, 12)).export_html(tmp_path / "round.html")
    return tmp_path / "round.html"


def test_a_step_back_from_a_round_is_the_end_of_the_one_before(visit, page_of_two_rounds):
    page = visit(page_of_two_rounds)
    text = page.locator(".mr-step-text")
    expect(text).to_have_text("step 24 of 24: node 5 updates")
    page.click('[data-step="message"]')
    expect(text).to_have_text("before the round")
    expect(page.locator('[data-fact="nodes"]')).to_have_text("4")
    page.click('[data-step="back"]')
    expect(text).to_have_text("step 24 of 24: node 5 updates")


def test_a_node_that_another_round_lacks_is_let_go(visit, page_of_two_rounds):
    page = visit(page_of_two_rounds, "#selected=node:5")
    assert lit(page) == ["node:5"] * 3
    page.select_option('[data-trait="round_index"]', index=1)
    expect(page.locator('[data-fact="nodes"]')).to_have_text("4")
    assert lit(page) == [""] * 3


def test_stepping_forward_and_back(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0])
    text, press = page.locator(".mr-step-text"), lambda name: page.click(f'[data-step="{name}"]')
    press("start")
    expect(text).to_have_text("before the round")
    press("message")
    expect(text).to_have_text("step 1 of 48: message 0 → 0")
    press("message")
    expect(text).to_have_text("step 2 of 48: message 1 → 0")
    assert lit(page) == ["edge:1-0"] * 3
    press("node")
    expect(text).to_have_text("step 6 of 48: node 0 updates")
    press("back")
    expect(text).to_have_text("step 5 of 48: message 7 → 0")
    press("round")
    expect(text).to_have_text("step 48 of 48: node 7 updates")
    press("play")  # from the end it starts again
    expect(page.locator('[data-step="play"]')).to_have_text("Pause")
    expect(text).not_to_contain_text("48:")
    expect(text).to_contain_text("2 of 48")  # and goes on
    press("play")
    expect(page.locator('[data-step="play"]')).to_have_text("Play")


def test_toggling_an_edge_in_both_views(visit, page_of_a_ring):
    path, widget = page_of_a_ring
    page = visit(path)
    before = {name: fact(page, name) for name in ("edges", "parameters", "multiply_adds")}
    page.click('[data-action="edit"]')
    box = page.locator('[data-view="matrix"] svg').bounding_box()
    cell = (box["width"] - 22) / 8
    page.mouse.click(box["x"] + 20 + 4.5 * cell, box["y"] + 20 + 0.5 * cell)
    expect(page.locator('[data-fact="edges"]')).to_have_text("17")
    facts = widget.scene_of(toggled=[[0, 4]])["facts"]
    assert fact(page, "parameters") == str(facts["parameters"]) != before["parameters"]
    assert fact(page, "multiply_adds") == str(facts["multiply_adds"]) != before["multiply_adds"]
    assert fact(page, "clustering_coefficient") == f"{facts['clustering_coefficient']:.3f}"
    assert fact(page, "average_path_length") == f"{facts['average_path_length']:.3f}"
    page.mouse.click(box["x"] + 20 + 4.5 * cell, box["y"] + 20 + 0.5 * cell)
    expect(page.locator('[data-fact="edges"]')).to_have_text(before["edges"])
    # In the drawing: from node to node.
    node(page, 1).hover()
    page.mouse.down()
    node(page, 5).hover()
    page.mouse.up()
    expect(page.locator('[data-fact="edges"]')).to_have_text("17")
    assert "toggled=1-5" in page.url


def test_a_finger_drags_an_edge_from_node_to_node(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0], viewport={"width": 390, "height": 800}, has_touch=True)
    page.tap('[data-action="edit"]')
    node(page, 4).scroll_into_view_if_needed()
    boxes = [node(page, v).locator(".mr-disc").bounding_box() for v in (1, 5)]
    ends = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
    touch = page.context.new_cdp_session(page)

    def at(kind, *points):
        places = [{"x": x, "y": y} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    at("touchStart", ends[0])
    at("touchMove", ends[1])
    at("touchEnd")
    expect(page.locator('[data-fact="edges"]')).to_have_text("17")
    assert "toggled=1-5" in page.url


def test_a_caption_says_what_the_colours_are(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0])
    for view in ("graph", "matrix"):
        caption = page.locator(f'[data-view="{view}"] .mr-caption')
        expect(caption).to_contain_text(re.compile(r"blue below 0, orange above, within ±\d"))


def test_swapping_the_aggregation(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0])
    page.select_option('[data-trait="aggr"]', "max")
    expect(page.locator(".mr-output")).to_contain_text("No dense layer to compare with")
    page.select_option('[data-trait="aggr"]', "mean")
    expect(page.locator('[data-fact="difference"]')).to_contain_text("e-")


def drawn(page):
    """What its canvases show, and how large its formulas are written."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".mr-stage canvas, .mr-output canvas")].map(
          (one) => one.toDataURL()).concat([...document.querySelectorAll("math")].map(
          (one) => getComputedStyle(one).fontSize))"""
    )


@pytest.mark.parametrize("kind", ["vectors", "maps"])
def test_steps_add_to_the_drawing_what_a_link_to_them_draws(visit, tmp_path, generator, kind):
    ring = graphs.ring(8, 4)
    layer = (
        RelationalLinear(ring, 32, 33, message="edge_mlp", generator=generator)
        if kind == "vectors"
        else RelationalConv2d(ring, 16, 16, 3, padding=1, generator=generator)
    )
    path = tmp_path / "page.html"
    RoundWidget(layer, step=0).export_html(path)
    page = visit(path)
    page.evaluate(
        """() => { window.mutations = 0;
        const count = new MutationObserver((records) => { window.mutations += records.length });
        for (const part of document.querySelectorAll(".mr-bar, .mr-facts, .mr-notes"))
          count.observe(part, {
            attributes: true, childList: true, characterData: true, subtree: true });
        }"""
    )
    strip = page.locator(".mr-output canvas").first.element_handle()
    for name in ("message", "node", "node", "message", "message", "node"):
        page.click(f'[data-step="{name}"]')
        page.wait_for_timeout(50)
    page.mouse.move(1, 1)
    assert page.evaluate("mutations") == 0  # menus and facts are of the round, not of a step
    assert strip.evaluate("one => one.isConnected")
    stepped = drawn(page)
    again = visit(path, page.url[page.url.index("#") :])
    expect(again.locator(".mr-step-text")).to_have_text("step 18 of 48: node 2 updates")
    assert drawn(again) == stepped
    page.click('[data-step="back"]')
    page.click('[data-step="message"]')
    page.wait_for_timeout(50)
    assert drawn(page) == stepped


def test_the_address_is_written_when_playing_ends(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0], "#step=0")
    page.evaluate(
        """() => { window.written = 0; const write = history.replaceState;
        history.replaceState = (...all) => { window.written++; write.apply(history, all) } }"""
    )
    page.click('[data-step="play"]')
    written = page.evaluate("written")  # of the step that it starts from
    page.wait_for_timeout(700)
    assert page.evaluate("written") == written
    page.click('[data-step="play"]')
    step = re.search(r"\d+", page.locator(".mr-step-text").inner_text()).group()
    assert int(step) > 0
    assert f"&step={step}&" in page.url


def test_a_link_restores_what_was_on_screen(visit, page_of_a_ring):
    path, _ = page_of_a_ring
    page = visit(path)
    page.select_option('[data-trait="aggr"]', "max")
    page.click('[data-step="start"]')
    for _ in range(3):
        page.click('[data-step="message"]')
    page.click('[data-view-button="matrix"]')
    expect(page.locator('[data-view="matrix"]')).to_be_hidden()
    link = page.url[page.url.index("#") :]
    again = visit(path, link)
    expect(again.locator(".mr-step-text")).to_have_text("step 3 of 48: message 2 → 0")
    assert again.locator('[data-trait="aggr"]').input_value() == "max"
    expect(again.locator('[data-view="matrix"]')).to_be_hidden()
    assert again.locator('[data-view="graph"]').get_attribute("data-lit") == "edge:2-0"
    assert "No dense layer" in again.locator(".mr-output").inner_text()


def test_pages_in_one_document_have_their_own_part_of_the_address(visit, page_of_a_ring, tmp_path):
    layer = RelationalLinear(graphs.ring(5, 2), 10, 10, backend="masked")
    RoundWidget(layer).export_html(tmp_path / "other.html")
    ring, other = page_of_a_ring[0].read_text(), (tmp_path / "other.html").read_text()
    path = tmp_path / "three.html"  # one of them twice
    path.write_text(ring + "".join(page[page.index("<main") :] for page in (other, ring)))
    page = visit(path)
    drawn = page.locator(".mpnn-round")
    expect(drawn.locator(".mr")).to_have_count(3)
    for which, name in enumerate(("message", "node", "round")):
        drawn.nth(which).locator('[data-step="start"]').click()
        drawn.nth(which).locator(f'[data-step="{name}"]').click()
    drawn.nth(1).locator('[data-trait="aggr"]').select_option("max")
    steps = ["step 1 of 48: message 0 → 0", "step 4 of 20: node 0 updates", "step 48 of 48"]
    again = visit(path, page.url[page.url.index("#") :]).locator(".mpnn-round")
    for which, step in enumerate(steps):
        expect(drawn.nth(which).locator(".mr-step-text")).to_contain_text(step)
        expect(again.nth(which).locator(".mr-step-text")).to_contain_text(step)
    chosen = [again.nth(i).locator('[data-trait="aggr"]').input_value() for i in range(3)]
    assert chosen == ["sum", "max", "sum"]


def test_widgets_in_a_row_share_its_width(visit, page_of_a_ring, tmp_path):
    page = page_of_a_ring[0].read_text()
    main, rest = re.search(r"(<main .*?</main>)(.*)", page, re.DOTALL).groups()
    path = tmp_path / "row.html"
    row = f'<div style="display: flex">{main}{main}</div>'
    path.write_text(page[: page.index("<main")] + row + rest + rest)
    drawn = visit(path).locator(".mr")
    expect(drawn).to_have_count(2)
    boxes = [drawn.nth(which).bounding_box() for which in range(2)]
    assert all(box["width"] == pytest.approx(640, abs=20) for box in boxes)
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]


def test_a_link_to_a_part_of_the_document_changes_nothing(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0], "#selected=node:2")
    page.evaluate("location.hash = '#exercise-2'")
    page.wait_for_timeout(100)
    assert lit(page) == ["node:2"] * 3
    assert page.url.endswith("#exercise-2")


def test_a_page_without_an_address_plays(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0])
    page.evaluate(
        """page => {
        document.body.innerHTML = "<iframe width=900 height=900></iframe>";
        document.querySelector("iframe").srcdoc = page }""",
        page_of_a_ring[0].read_text(),
    )
    inside = page.frame_locator("iframe")
    text = inside.locator(".mr-step-text")
    inside.locator('[data-step="start"]').click()
    inside.locator('[data-step="message"]').click()
    expect(text).to_have_text("step 1 of 48: message 0 → 0")
    inside.locator('[data-step="play"]').click()
    expect(text).to_contain_text(re.compile(r"step ([2-9]|\d\d) of 48"))


@pytest.mark.parametrize(
    "link", ["#step=-3&selected=node:99&toggled=0-x", "#views=&aggr=shout", "#%"]
)
def test_a_broken_link_leaves_a_page(visit, page_of_a_ring, link):
    page = visit(page_of_a_ring[0], link)
    node(page, 1)  # the page goes on
    assert fact(page, "edges") == "16"


def test_the_keyboard_reaches_everything(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0])
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                """() => { const on = document.activeElement;
                return on.dataset.trait ?? on.dataset.step ?? on.dataset.viewButton
                  ?? on.dataset.action ?? on.dataset.node ?? on.getAttribute('role') ?? on.type }"""
            )
        )
    assert reached >= {"message", "aggr", "graph", "matrix", "equation", "edit", "link", "start"}
    assert reached >= {"back", "play", "node", "round", "range", "0", "application"}
    page.locator('[data-step="round"]').focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # past the slider to the first node
    expect(page.locator('[data-view="graph"]')).to_have_attribute("data-lit", "node:0")
    page.keyboard.press("ArrowRight")
    expect(page.locator('[data-view="graph"]')).to_have_attribute("data-lit", "node:1")
    page.keyboard.press("ArrowDown")
    expect(page.locator('[data-view="matrix"]')).to_have_attribute("data-lit", "edge:0-1")
    page.keyboard.press("t")
    expect(page.locator('[data-fact="edges"]')).to_have_text("15")
    page.locator('[data-view="matrix"] svg').focus()
    page.keyboard.press("Enter")
    expect(page.locator('[data-fact="edges"]')).to_have_text("16")
    page.keyboard.press("ArrowDown")
    expect(page.locator('[data-view="graph"]')).to_have_attribute("data-lit", "edge:0-2")


def middle_of_the_lit_arc(page):
    """Where on the screen its message is drawn."""
    return page.locator(".mr-lit-edge").evaluate(
        """path => {
        const at = path.getPointAtLength(path.getTotalLength() / 2);
        const { x, y } = at.matrixTransform(path.getScreenCTM());
        return [x, y] }"""
    )


def test_a_second_click_lets_go_in_every_view(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0], "#selected=edge:1-3")
    graph = page.locator('[data-view="graph"]')
    matrix = page.locator('[data-view="matrix"] svg').bounding_box()
    cell = (matrix["width"] - 22) / 8
    disc = node(page, 5).locator("circle").last.bounding_box()
    arc = middle_of_the_lit_arc(page)
    page.mouse.click(*arc)  # lets go of what the link selects
    for name, (x, y) in {
        "edge:1-3": arc,
        "edge:2-4": (matrix["x"] + 20 + 2.5 * cell, matrix["y"] + 20 + 4.5 * cell),
        "node:5": (disc["x"] + disc["width"] / 2, disc["y"] + disc["height"] / 2),
    }.items():
        page.mouse.click(x, y)
        page.mouse.move(1, 1)
        expect(graph).to_have_attribute("data-lit", name)
        page.mouse.click(x, y)
        page.mouse.move(1, 1)
        expect(graph).to_have_attribute("data-lit", "")


def test_keys_go_on_from_an_arc_that_was_clicked(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0], "#selected=edge:1-3")
    graph = page.locator('[data-view="graph"]')
    arc = middle_of_the_lit_arc(page)
    page.mouse.click(*arc)  # lets go
    page.mouse.click(*arc)
    page.mouse.move(1, 1)
    page.keyboard.press("ArrowDown")
    expect(graph).to_have_attribute("data-lit", "edge:2-3")
    page.keyboard.press("Escape")
    expect(graph).to_have_attribute("data-lit", "")


@pytest.mark.parametrize(
    "on", ['[data-step="back"]', "input[type=range]", '[data-action="toggle"]']
)
def test_escape_lets_go_wherever_the_focus_is(visit, page_of_a_ring, on):
    page = visit(page_of_a_ring[0], "#selected=edge:1-3")
    page.locator(on).focus()
    page.keyboard.press("Escape")
    expect(page.locator('[data-view="graph"]')).to_have_attribute("data-lit", "")


def test_a_convolutions_messages_are_maps(visit, tmp_path, generator):
    layer = RelationalConv2d(graphs.ring(8, 4), 16, 16, 3, padding=1, generator=generator)
    RoundWidget(layer).export_html(tmp_path / "conv.html")
    page = visit(tmp_path / "conv.html", "#selected=edge:1-0")
    page.wait_for_selector(".mr-map")
    assert page.locator('[data-view="equation"] .mr-thumbnail').count() >= 4 + 2 + 2


LIVE = """async ([esm, state]) => {
    const file = new Blob([esm], { type: "text/javascript" });
    const { default: { render } } = await import(URL.createObjectURL(file));
    const listeners = {};
    window.answer = (changes) => {
        Object.assign(state, changes);
        for (const name of Object.keys(changes)) {
            for (const listener of listeners[`change:${name}`] ?? []) listener();
        }
    };
    const model = {
        get: (name) => state[name],
        set: (name, value) => answer({ [name]: value }),
        save_changes: () => {},
        on: (event, listener) => (listeners[event] ??= []).push(listener),
        off: () => {},
    };
    const at = document.getElementById("at");
    render({ model, el: at.shadowRoot?.firstElementChild ?? at });
}"""


def live_state(widget):
    """Its traits, as a notebook sends them to the browser."""
    names = [name for name in widget.keys if name[0] != "_" and name not in ("layout", "tooltip")]
    return {name: getattr(widget, name) for name in names}


@pytest.mark.parametrize("root", ["document", "shadow"])
def test_the_focus_stays_when_an_edge_is_toggled(browser, root):
    widget = RoundWidget(RelationalLinear(graphs.ring(8, 4), 16, 16, backend="masked"))
    page = browser.new_page()
    page.set_content("<div id='at'></div>")
    if root == "shadow":  # as in marimo
        page.evaluate("at.attachShadow({ mode: 'open' }).append(document.createElement('div'))")
    page.evaluate(LIVE, [widget._esm, live_state(widget)])
    graph = page.locator('[data-view="graph"]')
    node(page, 1).focus()
    for key, lit_part in {"ArrowDown": "edge:0-1", "t": "edge:0-1", "ArrowRight": "node:2"}.items():
        page.keyboard.press(key)
        if key == "t":
            page.evaluate("scene => answer({ scene })", widget.scene_of(toggled=[[0, 1]]))
            expect(page.locator('[data-fact="edges"]')).to_have_text("15")
        expect(graph).to_have_attribute("data-lit", lit_part)
    page.locator('[data-view="matrix"] svg').focus()
    page.keyboard.press("Home")
    page.locator('[data-action="toggle"]').focus()
    page.evaluate("scene => answer({ scene })", widget.scene)
    expect(page.locator('[data-fact="edges"]')).to_have_text("16")
    expect(page.locator('[data-action="toggle"]')).to_be_focused()
    page.close()


def test_an_answer_that_does_not_come_is_said(browser):
    widget = RoundWidget(RelationalLinear(graphs.ring(8, 4), 16, 16, backend="masked"))
    esm = widget._esm.replace("SLOW = [1.5, 15]", "SLOW = [0.2, 0.6]")
    assert esm != widget._esm
    page = browser.new_page()
    page.set_content(f"<style>{widget._css}</style><div id='at'></div>")
    page.evaluate(LIVE, [esm, live_state(widget)])
    page.wait_for_selector(".mr[data-theme]")
    waiting = page.locator(".mr-waiting")
    page.click('[data-step="start"]')  # asks nothing of Python
    page.wait_for_timeout(300)
    expect(waiting).to_have_text("")
    page.select_option('[data-trait="aggr"]', "max")
    expect(waiting).to_have_text(re.compile("Python computes what was asked for"))
    expect(waiting).to_have_text(re.compile("Python has not answered for 0.6 seconds"))
    page.evaluate("answer({ answered: 1 })")
    expect(waiting).to_have_text("")
    page.wait_for_timeout(700)
    expect(waiting).to_have_text("")
    page.close()


def test_what_the_keys_light_is_said(visit, page_of_a_ring):
    path, widget = page_of_a_ring
    page = visit(path)
    said = page.locator(".mr > .mr-hidden[aria-live]")
    node(page, 3).focus()
    page.keyboard.press("ArrowDown")
    expect(said).to_have_text(re.compile(r"message from 1 to 3, mean \u2212?\d"))
    shown = float(said.inner_text().split()[-1].replace("\u2212", "-"))
    place = (widget.layer.plan.source == 1) & (widget.layer.plan.target == 3)
    sent = record(widget.layer, widget._shown.x)[""].messages[place][0, :4].mean()  # of 5, padded
    assert shown == pytest.approx(float(sent), abs=0.006)
    page.keyboard.press("t")
    expect(said).to_have_text("edge from 1 to 3 taken away, 15 edges")
    page.click('[data-step="start"]')
    page.locator('[data-view="matrix"] svg').focus()
    page.keyboard.press("Home")
    expect(said).to_have_text("message from 0 to 0, not sent yet")
    page.keyboard.press("t")  # the number of edges, without self-loops, stays
    expect(said).to_have_text("self-loop of node 0 taken away")
    page.keyboard.press("t")
    expect(said).to_have_text("self-loop of node 0 added")
    page.keyboard.press("ArrowDown")
    expect(said).to_have_text("message from 0 to 1, not sent yet")
    text = page.locator(".mr-step-text")
    expect(text).to_have_attribute("aria-live", "polite")
    page.click('[data-step="play"]')
    expect(text).to_have_attribute("aria-live", "off")


def test_above_256_nodes_the_matrix_stands_alone(visit, tmp_path, generator):
    layer = RelationalLinear(graphs.ring(300, 2), 300, 300, generator=generator)
    RoundWidget(layer).export_html(tmp_path / "large.html")
    page = visit(tmp_path / "large.html")
    expect(page.locator('[data-view="graph"]')).to_be_hidden()
    expect(page.locator('[data-view="matrix"]')).to_be_visible()
    assert "the matrix alone" in page.locator(".mr-notes").inner_text()


@pytest.mark.parametrize("width", [320, 1280])
def test_a_long_formula_fits(visit, tmp_path, generator, width):
    path = tmp_path / "mlp.html"
    long = {"message": "edge_mlp", "aggr": ["mean", "max", "softmax", "power-mean", "std"]}
    layer = RelationalLinear(graphs.ring(8, 4), 16, 16, generator=generator, **long)
    RoundWidget(layer, selected="node:7").export_html(path)
    page = visit(path, viewport={"width": width, "height": 900})
    page.wait_for_selector("math")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("location.hash = '#selected='")
    page.wait_for_selector(".mr-help")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [400, 1280, 1600])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(visit, page_of_a_ring, serious_faults, width, theme):
    size = {"width": width, "height": 900}
    page = visit(page_of_a_ring[0], "#selected=node:2&step=20", viewport=size, color_scheme=theme)
    page.wait_for_selector(".mr-line")
    assert page.locator(".mr").get_attribute("data-theme") == theme
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_faults(page) == []


def test_a_sample_beyond_the_last_is_the_last(visit, tmp_path, generator):
    layer = RelationalLinear(graphs.ring(4, 2), 8, 8, backend="masked", generator=generator)
    RoundWidget(layer, torch.randn(3, 8, generator=generator)).export_html(tmp_path / "page.html")
    page = visit(tmp_path / "page.html")
    asked = page.locator('[data-trait="sample"]')
    for number in ("99", "98"):
        asked.fill(number)
        asked.press("Enter")
        expect(asked).to_have_value("2")


def test_tiny_numbers_fit_their_cells(visit, tmp_path, generator):
    layer = RelationalLinear(graphs.ring(4, 2), 16, 16, backend="masked", generator=generator)
    x = -1e-30 * torch.rand(1, 16, generator=generator)
    RoundWidget(layer, x, selected="node:0").export_html(tmp_path / "page.html")
    page = visit(tmp_path / "page.html")
    numbers = page.locator(".mr-line[data-edge] .mr-cell")
    assert max(len(text) for text in numbers.all_inner_texts()) == len("\u22121.2e\u221231")
    assert numbers.evaluate_all("all => all.every((one) => one.scrollWidth <= one.clientWidth)")


def test_paper_keeps_the_colours(visit, page_of_a_ring):
    page = visit(page_of_a_ring[0], "#selected=node:2")
    page.emulate_media(media="print")
    cell = page.locator(".mr-cell").first
    assert cell.evaluate("one => getComputedStyle(one).printColorAdjust") == "exact"
    expect(page.locator('[data-step="play"]')).to_be_hidden()
    expect(page.locator(".mr-step-text")).to_be_visible()
    beyond = page.evaluate(  # at once: no script draws anew for the width of paper
        """() => { document.querySelector(".mpnn-round").style.width = "718px";
        return [...document.querySelectorAll(".mr-stage > *")].map(
          (drawing) => drawing.clientWidth - drawing.parentElement.clientWidth) }"""
    )
    assert max(beyond) <= 0
