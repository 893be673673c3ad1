// One round of message exchange, drawn from its recorded scene. Nothing here computes a layer: every
// number comes from Python, see scene.py. In a notebook anywidget calls `render`; an exported page
// calls `renderRecorded`, whose model answers from the scenes recorded in the page.

import { themeOf } from "./colours.js";
import { element } from "./elements.js";
import { EquationView } from "./equation_view.js";
import { Frame } from "./frame.js";
import { GraphView } from "./graph_view.js";
import { MatrixView } from "./matrix_view.js";
import { OutputView } from "./output_view.js";
import { decode, updatesIn } from "./scene.js";
import { MOST_NODES_DRAWN, Screen } from "./screen.js";
import { Stepping } from "./stepping.js";

/** Traits that the frame shows, and those that change with every step that is played. */
const FRAMED = [
  "scene", "rounds", "menus", "samples", "round_index", "sample", "aggr", "message", "toggled", "views", "error",
];
const DRAWN = ["step", "selected", "theme"];

class Widget {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.root = element("div", { class: "mr" });
    this.screen = new Screen(model, () => this.draw());
    this.frame = new Frame(this.screen);
    this.stepping = new Stepping(this.screen, this.root);
    this.views = {
      graph: new GraphView(this.screen),
      matrix: new MatrixView(this.screen),
      equation: new EquationView(this.screen),
    };
    this.viewsBox = element("div", { class: "mr-views" }, ...Object.values(this.views).map((view) => view.element));
    this.output = new OutputView(this.screen);
    this.root.append(...this.frame.elements, this.stepping.element, this.viewsBox, this.output.element);
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && model.get("selected")) this.screen.select("");
    });
    this.drawn = {}; // what is on screen now, so that only what changed is drawn again
    this.width = null; // of the views, in pixels; asking for it lays the page out, so it is kept until that may change
  }

  draw() {
    const { model, screen } = this;
    if (!this.root.isConnected || !model.get("scene")?.nodes) return;
    if (model.get("scene") !== this.drawn.raw) {
      screen.scene = decode(model.get("scene"));
      screen.sayToggled();
    }
    screen.theme = themeOf(model, this.el);
    this.root.dataset.theme = screen.theme;
    this.root.classList.toggle("is-editing", screen.editing);
    if (this.frame.stale) this.frame.draw();
    this.stepping.draw();
    const shown = this.showViews();
    const changed = this.compare();
    for (const view of shown) view.draw(changed);
    this.output.draw(changed);
    if (changed.all || changed.lit)
      for (const view of Object.values(this.views)) view.element.dataset.lit = this.drawn.lit;
    if (!this.views.equation.element.hidden) this.views.equation.fit(); // last, as it lays the page out
  }

  /** Show the views that are asked for; a graph of many nodes is not drawn. */
  showViews() {
    const asked = this.model.get("views");
    for (const [name, { element }] of Object.entries(this.views)) element.hidden = !asked.includes(name);
    this.views.graph.element.hidden ||= this.screen.scene.num_nodes > MOST_NODES_DRAWN;
    const shown = Object.values(this.views).filter((view) => !view.element.hidden);
    if (this.viewsBox.dataset.count !== String(shown.length)) this.viewsBox.dataset.count = shown.length;
    return shown;
  }

  /** What is to be drawn again: all, what is lit, or what follows the step and, of that, the nodes' updates. */
  compare() {
    const { screen, drawn: before } = this;
    const now = {
      raw: this.model.get("scene"),
      theme: screen.theme,
      step: screen.step,
      lit: screen.lit?.name ?? "",
      width: (this.width ??= this.viewsBox.clientWidth),
      views: this.model.get("views").join() + this.viewsBox.dataset.count,
    };
    const all = ["raw", "theme", "width", "views"].some((name) => now[name] !== before[name]);
    this.drawn = now;
    return {
      all,
      step: all || now.step !== before.step,
      from: before.step,
      updates: all || updatesIn(screen.scene, now.step) !== updatesIn(screen.scene, before.step),
      lit: now.lit !== before.lit,
    };
  }

  /** Follow the model, the size of the cell, and the theme of the page around; the end of that is returned. */
  follow() {
    const { model, screen, stepping } = this;
    const invalidate = () => screen.invalidate();
    const played = () => {
      invalidate();
      stepping.keepPlaying();
    };
    const answered = () => screen.answered();
    const reframe = () => {
      this.frame.stale = true;
      invalidate();
    };
    const listeners = [
      ...FRAMED.map((trait) => [`change:${trait}`, reframe]),
      ...DRAWN.map((trait) => [`change:${trait}`, invalidate]),
      ["change:playing", played],
      ["change:answered", answered],
    ];
    for (const [event, listener] of listeners) model.on(event, listener);
    let wide = null;
    const resized = new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === wide) return; // the height follows what is drawn
      wide = contentRect.width;
      this.width = null;
      invalidate();
    });
    resized.observe(this.root);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", invalidate);
    const themed = new MutationObserver(invalidate);
    for (const part of [document.body, document.documentElement]) themed.observe(part, { attributes: true });
    played();
    return () => {
      cancelAnimationFrame(screen.frame);
      stepping.stop();
      resized.disconnect();
      themed.disconnect();
      dark.removeEventListener("change", invalidate);
      for (const [event, listener] of listeners) model.off(event, listener);
      answered();
    };
  }
}

/** Draw the widget in `el`; returns what ends it. */
export function render({ model, el }) {
  const widget = new Widget(model, el);
  el.style.flex ||= "1 1 auto"; // several in a row share it
  el.append(widget.root);
  return widget.follow();
}

export default { render };
