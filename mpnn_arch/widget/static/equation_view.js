// x_v' = sigma(AGG over the received messages + b_v), with the numbers of what is pointed at.

import { CELL, cells, line, maps, sentence, stacked } from "./cells.js";
import { button, displayed, element, focusedIn, formula, math, section } from "./elements.js";
import { clamp, messages } from "./numbers.js";
import { isSent, progress } from "./scene.js";
import { TITLES } from "./screen.js";

const MOST_ROWS = 12; // of messages
const AGG_SIGN = { sum: "\u2211", add: "\u2211", mul: "\u220f" };
const HELP = [
  ["click", "keeps what is pointed at; again, or Escape, lets go"],
  ["Edit edges", "then click an arc or a block, or drag from node to node"],
  ["\u2190 \u2192", "with a node in focus: the next node; in the matrix, the next block"],
  ["\u2191 \u2193", "with a node in focus: the messages that it receives"],
  ["T", "adds or takes away the edge in focus"],
];
const RESULT = { class: "mr-line is-result" };
const FONT = 18; // pixels, of a formula

/** The round of a scene in symbols, for any node, or for the node `v`. */
function roundFormula(scene, v) {
  const node = v === undefined ? math("mi", "v") : math("mi", String(v));
  const copy = () => node.cloneNode(true);
  const sign = AGG_SIGN[scene.aggr];
  const neighbours = [math("mi", "N"), math("mo", "("), copy(), math("mo", ")")];
  const over = math("mrow", math("mi", "u"), math("mo", "\u2208"), ...neighbours);
  const message = formula(scene.formula, v === undefined ? {} : { v, u: "u" });
  // What AGG takes ends before the bias: as it is written, unless a sum says so.
  const taken = sign && !scene.formula.includes("+") ? [message] : [math("mo", "("), message, math("mo", ")")];
  const bias = scene.nodes[0].bias ? [math("mo", "+"), math("msub", math("mi", "b"), copy())] : [];
  const agg = math("munder", math(sign ? "mo" : "mi", sign ?? scene.aggr), over);
  const body = math("mrow", agg, math("mspace"), ...taken, ...bias);
  const output = math("msubsup", math("mi", "x"), copy(), math("mo", "\u2032"));
  return displayed(output, math("mo", "="), math("mi", "\u03c3"), math("mo", "("), body, math("mo", ")"));
}

/** The message from u to v in symbols. */
function messageFormula(scene, u, v) {
  const name = math("msub", math("mi", "f"), math("mrow", math("mn", v), math("mo", ","), math("mn", u)));
  const argument = math("msub", math("mi", "x"), math("mn", u));
  return displayed(name, math("mo", "("), argument, math("mo", ")"), math("mo", "="), formula(scene.formula, { u, v }));
}

/** How many pixels a formula is wide. */
function widthOf(whole) {
  const boxes = [...whole.children].map((child) => child.getBoundingClientRect());
  return Math.max(...boxes.map((one) => one.right)) - Math.min(...boxes.map((one) => one.left));
}

export class EquationView {
  constructor(screen) {
    this.screen = screen;
    this.box = element("div", { class: "mr-equation" });
    this.element = section("equation", TITLES.equation, this.box);
    this.width = 0; // of the box, in pixels
    this.widths = new Map(); // of formulas, by their letters: figures are equally wide
  }

  draw(changed) {
    if (!changed.step && !changed.lit) return;
    if (changed.all) {
      this.width = this.box.clientWidth;
      this.widths.clear();
    }
    const { lit } = this.screen;
    const focused = focusedIn(this.box)?.dataset.action;
    const rows = !lit ? this.ofRound() : lit.node !== undefined ? this.ofNode(lit.node) : this.ofEdge(lit.u, lit.v);
    this.box.replaceChildren(...rows);
    if (focused) this.box.querySelector(`[data-action="${focused}"]`)?.focus();
  }

  /** A formula is not broken into lines: one that is too long is written smaller. */
  fit() {
    for (const whole of this.box.querySelectorAll("math:not([style])")) {
      const letters = whole.textContent.replace(/\d/g, "0");
      if (!this.widths.has(letters)) this.widths.set(letters, widthOf(whole));
      const fits = (0.98 * this.width) / this.widths.get(letters);
      whole.style.fontSize = `${FONT * Math.min(1, fits)}px`;
    }
  }

  cells(values, largest, rows, columns, most = this.fitting(124)) {
    return cells(values, [rows, columns], largest, this.screen.theme, most);
  }

  /** Cells that fit beside what takes `beside` pixels. */
  fitting(beside) {
    return Math.floor((this.width - beside) / CELL);
  }

  /** A share of `size` channels: numbers, or maps. */
  share(values, size, map, largest) {
    return map.length ? maps(values, size, map, largest, this.screen.theme) : this.cells(values, largest, 1, size);
  }

  /** A share of what node v gives out. */
  given(v, values, largest) {
    const { scene } = this.screen;
    return this.share(values, scene.out_sizes[v], scene.map_out, largest);
  }

  /** All that is known of a message on a large graph. */
  meanOf(edge) {
    return this.cells([edge.mean], this.screen.scene.largest.mean, 1, 1);
  }

  ofRound() {
    const { scene } = this.screen;
    const { in_channels: from, out_channels: to } = scene.facts;
    const keys = HELP.flatMap(([key, what]) => [element("dt", {}, key), element("dd", {}, what)]);
    return [
      roundFormula(scene),
      sentence(
        `A layer of ${from} \u2192 ${to} channels is one round on ${scene.num_nodes} nodes. `,
        `\u03c3 is ${scene.update}. Point at a node, an edge or a block to see its numbers.`),
      element("dl", { class: "mr-help" }, ...keys),
    ];
  }

  ofNode(v) {
    const { scene, step } = this.screen;
    const node = scene.nodes[v];
    const { largest } = scene;
    const { arrived, done } = progress(scene, v, step);
    const count = node.sources.length;
    const rows = [
      sentence(
        `Node ${v} holds ${scene.in_sizes[v]} of ${scene.facts.in_channels} channels and receives `,
        `${messages(count)}; ${arrived} ${arrived === 1 ? "has" : "have"} arrived. \u03c3 is ${scene.update}.`),
      roundFormula(scene, v),
      ...this.messagesInto(v, arrived),
    ];
    const last = arrived > 0 ? scene.edgeAt.get(`${node.sources[arrived - 1]}-${v}`) : null;
    const grown = arrived === count ? node.aggregate : last?.partial;
    const aggr = `${scene.aggr}${arrived < count ? " so far" : ""}`;
    if (grown) rows.push(line(aggr, this.given(v, grown, largest.aggregate), RESULT));
    if (node.bias) rows.push(line("b", this.cells(node.bias, largest.aggregate, 1, scene.out_sizes[v])));
    if (node.residual) rows.push(line("residual", this.given(v, node.residual, largest.output)));
    if (done) rows.push(line("x\u2032 = \u03c3(\u2026)", this.given(v, node.output, largest.output), RESULT));
    if (done && node.dense) rows.push(line("dense", this.given(v, node.dense, largest.output)));
    return rows;
  }

  /** Messages to v around the last one that has arrived. */
  messagesInto(v, arrived) {
    const { scene } = this.screen;
    const { sources } = scene.nodes[v];
    const first = clamp(arrived - MOST_ROWS + 2, 0, Math.max(0, sources.length - MOST_ROWS));
    const after = sources.length - first - MOST_ROWS;
    const more = (count, where) => (count > 0 ? [element("p", { class: "mr-more" }, `\u22ee ${count} ${where}`)] : []);
    const rows = sources.slice(first, first + MOST_ROWS).map((u, i) => {
      const edge = scene.edgeAt.get(`${u}-${v}`);
      const numbers = edge.message ? this.given(v, edge.message, scene.largest.message) : this.meanOf(edge);
      const waiting = first + i < arrived ? "" : " is-waiting";
      return line(`from ${u}`, numbers, { class: `mr-line${waiting}`, "data-edge": `${u}-${v}` });
    });
    return [...more(first, "before"), ...rows, ...more(after, "more")];
  }

  ofEdge(u, v) {
    const { scene, step } = this.screen;
    const edge = scene.edgeAt.get(`${u}-${v}`);
    if (!edge) {
      return [
        sentence(
          `There is no edge from node ${u} to node ${v}: `,
          "no message flows, and the block of the matrix has no weights."),
        this.toggleButton(u, v, "Add this edge"),
      ];
    }
    const sent = isSent(scene, edge, step);
    const rows = [
      sentence(`The message from node ${u} to node ${v}: ${scene.in_sizes[u]} channels in, ${scene.out_sizes[v]} out.`),
      messageFormula(scene, u, v),
      ...this.weightsOf(edge),
    ];
    if (!edge.message && scene.matrix !== "mean of the message")
      rows.push(line("mean of the message", this.meanOf(edge)));
    if (edge.partial && sent) {
      const partial = this.given(v, edge.partial, scene.largest.aggregate);
      rows.push(line(`${scene.aggr} at ${v} with it`, partial, RESULT));
    }
    if (!sent) rows.push(sentence("It has not been sent yet."));
    return [...rows, this.toggleButton(u, v, "Take this edge away")];
  }

  toggleButton(u, v, label) {
    const { screen } = this;
    const { model } = screen;
    const possible = !model.answers || model.answers({ toggled: screen.toggledWith(u, v) });
    return button(label, "The layer is rebuilt; all other weights stay", () => screen.toggle(u, v),
      { "data-action": "toggle", disabled: !possible });
  }

  /** An edge's weights, what they take, and the message that they give, as far as each is known. */
  weightsOf(edge) {
    const { scene, theme } = this.screen;
    const { u, v, weights, message } = edge;
    const { largest } = scene;
    const [rows, columns] = [scene.out_sizes[v], scene.in_sizes[u]];
    const { x } = scene.nodes[u];
    const made = [];
    if (scene.whole_blocks && !scene.kernel.length) {
      const most = clamp(this.fitting(160), 2, 8);
      const block = this.cells(weights, largest.weight, rows, columns, most);
      const column = (label, values, size, count) => stacked(label, this.cells(values, size, count, 1, most));
      const product = element("div", { class: "mr-product" }, stacked(scene.matrix, block));
      if (!scene.map_in.length) product.append(column(`x from ${u}`, x, largest.x, columns));
      if (message && !scene.map_out.length) {
        const arrow = element("span", { class: "mr-equals" }, "\u2192");
        product.append(arrow, column("message", message, largest.message, rows));
      }
      made.push(product);
    } else if (!scene.whole_blocks) made.push(line(scene.matrix, this.cells(weights, largest.weight, 1, 1)));
    else {
      const kernels = maps(weights, rows * columns, scene.kernel, largest.weight, theme, 8, 30);
      made.push(line(`kernels ${scene.matrix}`, kernels));
    }
    if (scene.map_in.length || !scene.whole_blocks) {
      made.push(line(`x from ${u}`, this.share(x, columns, scene.map_in, largest.x)));
      if (message) made.push(line("message", this.given(v, message, largest.message)));
    }
    return made;
  }
}
