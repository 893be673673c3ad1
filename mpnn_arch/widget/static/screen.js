// What the parts of a widget share: the model, the scene on screen, and what is pointed at.

import { element } from "./elements.js";
import { clamp, shown } from "./numbers.js";
import { isSent, lastEvent, nameOf, parsePart } from "./scene.js";

export const TITLES = { graph: "Graph", matrix: "Weight matrix", equation: "Equation" };
export const VIEWS = Object.keys(TITLES);
export const MOST_NODES_DRAWN = 256; // above, the matrix alone
/** What Python, or a recorded page, computes anew. */
export const REBUILDING = ["round_index", "sample", "aggr", "message", "toggled"];
const SLOW = [1.5, 15]; // seconds without an answer after which that is said

export class Screen {
  /** `redraw` is called before the browser's next frame after something changed. */
  constructor(model, redraw) {
    this.model = model;
    this.redraw = redraw;
    this.scene = null; // decoded
    this.theme = "light";
    this.hovered = "";
    this.editing = false;
    this.toggledPart = null; // whose new state is still to be said
    this.frame = 0;
    this.waits = [];
    this.waiting = element("p", { class: "mr-waiting", role: "status" });
    this.told = element("span", { class: "mr-hidden", "aria-live": "polite" });
  }

  invalidate() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.redraw();
    });
  }

  /** Change what is on screen. Menus show it at once, the numbers when Python has answered. */
  set(changes) {
    for (const [key, value] of Object.entries(changes)) this.model.set(key, value);
    this.model.save_changes();
    if (!this.model.answers && REBUILDING.some((key) => key in changes)) this.expectAnswer();
  }

  expectAnswer() {
    this.answered();
    const sentences = [
      "Python computes what was asked for; the numbers are those from before.",
      `Python has not answered for ${SLOW[1]} seconds: it is busy, or has ended. The numbers are those from before.`,
    ];
    this.waits = sentences.map((sentence, i) =>
      setTimeout(() => { this.waiting.textContent = sentence; }, 1000 * SLOW[i]));
  }

  answered() {
    this.waits.forEach(clearTimeout);
    this.waits = [];
    this.waiting.textContent = "";
  }

  /** Say it to who does not see what is lit. */
  say(text) {
    this.told.textContent = text;
  }

  get step() {
    return clamp(this.model.get("step"), 0, this.scene.total);
  }

  get rounds() {
    return this.model.get("rounds").length;
  }

  /** What is pointed at or selected; nothing where it is of a round on a larger graph. */
  get lit() {
    const part = parsePart(this.hovered || this.model.get("selected"));
    return part && Math.max(part.node ?? 0, part.u ?? 0, part.v ?? 0) < this.scene.num_nodes ? part : null;
  }

  hover(name) {
    if (name === this.hovered) return;
    this.hovered = name;
    this.invalidate();
  }

  select(name) {
    this.hovered = "";
    this.set({ selected: name });
  }

  /** A click keeps what is pointed at; another lets go. */
  keep(name) {
    this.select(name === this.model.get("selected") ? "" : name);
  }

  /** Step `to` of the round, and what happens there selected. */
  go(to) {
    this.hovered = "";
    this.set({ step: to, selected: nameOf(lastEvent(this.scene, to)) });
  }

  /** The pairs that are toggled, were that of u and v, too. */
  toggledWith(u, v) {
    const pair = this.scene.directed || u <= v ? [u, v] : [v, u];
    const before = this.model.get("toggled");
    const rest = before.filter(([a, b]) => a !== pair[0] || b !== pair[1]);
    return rest.length < before.length ? rest : [...before, pair];
  }

  toggle(u, v) {
    this.set({ toggled: this.toggledWith(u, v), selected: `edge:${u}-${v}` });
    this.toggledPart = { u, v };
  }

  sayToggled() {
    if (!this.toggledPart) return;
    const { u, v } = this.toggledPart;
    // The number of edges leaves self-loops out.
    const count = `, ${this.scene.facts.edges} edges`;
    const what = u === v ? [`self-loop of node ${u}`, ""] : [`edge from ${u} to ${v}`, count];
    this.say(what.join(this.scene.edgeAt.has(`${u}-${v}`) ? " added" : " taken away"));
    this.toggledPart = null;
  }

  /** Select the edge from u to v, as a key does, and say what its message is. */
  walkTo(u, v) {
    this.select(`edge:${u}-${v}`);
    this.say(this.describeEdge(u, v));
  }

  describeEdge(u, v) {
    const { scene } = this;
    const edge = scene.edgeAt.get(`${u}-${v}`);
    if (!edge) return `no edge from ${u} to ${v}`;
    const sent = isSent(scene, edge, this.step);
    return `message from ${u} to ${v}, ${sent ? `mean ${shown(edge.mean, scene.largest.mean)}` : "not sent yet"}`;
  }
}
