// The relational graph: nodes with a tick a channel, messages as coloured arcs.

import { colour, css, readableOn, sides } from "./colours.js";
import { drawingWidth, element, fit, fitSvg, focusedIn, picture, section, svg } from "./elements.js";
import { GraphPointer, walkGraph } from "./graph_input.js";
import { along, layout, pathOf, stroke } from "./graph_layout.js";
import { mean, messages } from "./numbers.js";
import { isSent, messagesIn, progress } from "./scene.js";
import { TITLES } from "./screen.js";

const GRAPH_KEYS = "Nodes of the graph. Left and right go from node to node, up and down through the messages " +
  "that a node receives, T adds or takes away the edge.";
const MOST_LIT = 16; // edges, above which they have no arrows or maps

export class GraphView {
  constructor(screen) {
    this.screen = screen;
    this.arcs = element("canvas", { "aria-hidden": "true" });
    this.ticks = element("canvas", { "aria-hidden": "true" });
    this.overlay = svg("g", { "aria-hidden": "true" });
    this.nodes = svg("g");
    this.arrow = svg("marker", {
      id: `mr-arrow-${Math.random().toString(36).slice(2)}`, viewBox: "0 0 10 10", refX: 8, refY: 5,
      markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse",
    }, svg("path", { d: "M0 0L10 5L0 10z", class: "mr-arrow" }));
    const defs = svg("defs", {}, this.arrow);
    this.svg = svg("svg", { role: "group", "aria-label": GRAPH_KEYS }, defs, this.overlay, this.nodes);
    this.box = element("div", { class: "mr-stage" }, this.arcs, this.ticks, this.svg);
    this.caption = element("p", { class: "mr-caption" });
    this.element = section("graph", TITLES.graph, this.box, this.caption);
    this.shape = null; // where nodes and arcs lie
    new GraphPointer(this).listen();
    walkGraph(this);
  }

  /** `changed`: what is to be drawn anew, and the step `from` which the messages sent since are added. */
  draw(changed) {
    if (changed.all) {
      this.shape = layout(this.screen.scene, drawingWidth(this.box));
      this.buildNodes();
    }
    if (changed.step) this.drawArcs(changed.all ? undefined : changed.from);
    if (changed.updates) {
      this.drawTicks();
      this.colourNodes();
    }
    if (changed.step || changed.lit) this.drawOverlay();
    if (changed.all) this.caption.textContent = this.describe();
  }

  describe() {
    const { scene } = this.screen;
    const most = this.mostTicks;
    const some = Math.max(...scene.in_sizes, ...scene.out_sizes) > most ? `up to ${most} of a node's ` : "";
    const rings = this.shape.rings === 2 ? "x inside, x\u2032 outside" : "x, and x\u2032 once the node has updated";
    return `Ticks are ${some}channels: ${rings}. ` +
      `A message's colour is its mean, ${sides(scene.largest.mean)}; its width is its root mean square.`;
  }

  get mostTicks() {
    return this.screen.scene.num_nodes <= 24 ? 32 : 12;
  }

  strokeWidth(edge) {
    const { scene } = this.screen;
    const [least, more] = scene.num_nodes > 32 ? [0.4, 1.6] : [0.8, 4];
    return least + more * (Number.isFinite(edge.size) ? edge.size / scene.largest.size : 1);
  }

  colourOf(edge) {
    const { scene, theme } = this.screen;
    return css(colour(edge.mean / scene.largest.mean, theme));
  }

  buildNodes() {
    const { shape, screen } = this;
    fitSvg(this.svg, shape.size, shape.size);
    const focused = focusedIn(this.nodes)?.dataset.node;
    this.nodes.replaceChildren(...screen.scene.nodes.map((_, v) => this.buildNode(v)));
    if (focused !== undefined) this.nodes.children[focused]?.focus();
  }

  buildNode(v) {
    const { shape } = this;
    const { scene } = this.screen;
    const label = `node ${v}, ${scene.in_sizes[v]} channels in, ${scene.out_sizes[v]} out, receives ` +
      messages(scene.nodes[v].sources.length);
    const { x, y } = shape.at[v];
    const group = svg("g", {
      class: "mr-node", role: "button", tabindex: v === 0 ? 0 : -1, "data-node": v, "aria-label": label,
      transform: `translate(${x} ${y})`,
    }, svg("circle", { r: shape.rim, class: "mr-hit" }), svg("circle", { r: shape.radius, class: "mr-disc" }));
    if (shape.radius >= 7) group.append(svg("text", { dy: "0.35em" }, String(v)));
    return group;
  }

  /** Edges in grey, and the messages sent so far in colour; going forward only the new ones. */
  drawArcs(before) {
    const { shape } = this;
    const { scene, step, theme } = this.screen;
    const from = before === undefined || step < before ? null : before;
    const context = from === null ? fit(this.arcs, shape.size, shape.size) : this.arcs.getContext("2d");
    if (from === null) {
      context.strokeStyle = theme === "dark" ? "rgba(150,160,175,.45)" : "rgba(90,100,115,.35)";
      context.lineWidth = scene.num_nodes > 32 ? 0.35 : 0.8;
      for (const curve of shape.curves) stroke(context, curve);
    }
    for (const edge of scene.edges.slice(messagesIn(scene, from ?? 0), messagesIn(scene, step))) {
      context.strokeStyle = this.colourOf(edge);
      context.lineWidth = this.strokeWidth(edge);
      stroke(context, shape.curves[edge.index]);
    }
  }

  /** Each node's share: a tick a channel, x inside and, once the node has updated, x' outside. */
  drawTicks() {
    const { shape } = this;
    const { scene, step } = this.screen;
    const { radius, tick, gap } = shape;
    const context = fit(this.ticks, shape.size, shape.size);
    context.lineWidth = tick;
    const panel = getComputedStyle(this.element).backgroundColor;
    const outer = radius + gap + (shape.rings - 1) * (tick + gap);
    scene.nodes.forEach((node, v) => {
      const { x, y } = shape.at[v];
      context.fillStyle = panel; // arcs end at the rim
      context.beginPath();
      context.arc(x, y, shape.rim, 0, 2 * Math.PI);
      context.fill();
      const { done } = progress(scene, v, step);
      const { in_sizes: inSizes, out_sizes: outSizes, pixelsIn, pixelsOut, largest } = scene;
      const output = done ? node.output : null;
      const before = { values: node.x, pixels: pixelsIn, count: inSizes[v], largest: largest.x };
      const after = { values: output, pixels: pixelsOut, count: outSizes[v], largest: largest.output };
      if (shape.rings === 2 || !done) this.drawRing(context, shape.at[v], radius + gap, before);
      if (shape.rings === 2 || done) this.drawRing(context, shape.at[v], outer, after);
    });
  }

  /** A tick for each of `count` channels, or for some of them; their colour is the mean of the channel's pixels. */
  drawRing(context, { x, y }, inner, { values, pixels, count, largest }) {
    const { theme } = this.screen;
    const empty = theme === "dark" ? "#333a45" : "#dfe3e8";
    const some = Math.min(count, this.mostTicks);
    const turn = (2 * Math.PI) / some;
    const between = Math.min(0.3 * turn, 1.2 / inner);
    for (let i = 0; i < some; i++) {
      const channel = Math.floor((i * count) / some);
      const value = values && mean(values.subarray(channel * pixels, (channel + 1) * pixels));
      const from = -Math.PI / 2 + turn * i + between / 2;
      context.strokeStyle = values ? css(colour(value / largest, theme)) : empty;
      context.beginPath();
      context.arc(x, y, inner + this.shape.tick / 2, from, from + turn - between);
      context.stroke();
    }
  }

  /** What is pointed at or selected: its edges, and the nodes at their ends. */
  drawOverlay() {
    const { scene, lit } = this.screen;
    const isNode = lit && lit.node !== undefined;
    const sources = isNode ? scene.nodes[lit.node].sources : [];
    const pairs = isNode ? sources.map((u) => [u, lit.node]) : lit ? [[lit.u, lit.v]] : [];
    const few = pairs.length <= MOST_LIT;
    const mapSide = !few || !scene.map_out.length ? 0 : pairs.length > 8 ? 20 : 28;
    this.overlay.replaceChildren(...pairs.flatMap(([u, v]) => {
      const edge = scene.edgeAt.get(`${u}-${v}`);
      return edge ? this.litEdge(edge, few, mapSide) : [this.absentEdge(u, v)];
    }));
    this.mark("is-lit", isNode ? [lit.node] : lit ? [lit.u, lit.v] : []);
    this.mark("is-near", sources);
  }

  /** The nodes of a class, alone. */
  mark(name, nodes) {
    const of = new Set(nodes.map((v) => this.nodes.children[v]));
    for (const one of [...this.nodes.getElementsByClassName(name)]) if (!of.has(one)) one.classList.remove(name);
    for (const one of of) one.classList.add(name);
  }

  absentEdge(u, v) {
    const [a, b] = [this.shape.at[u], this.shape.at[v]];
    return svg("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: "mr-absent-edge" });
  }

  litEdge(edge, few, mapSide) {
    const { scene, step, theme } = this.screen;
    const curve = this.shape.curves[edge.index];
    const sent = isSent(scene, edge, step);
    const width = this.strokeWidth(edge) + 1;
    const d = pathOf(curve);
    const halo = svg("path", { d, class: "mr-halo", "stroke-width": width + (few ? 3 : 0.8) });
    const line = svg("path", { d, class: "mr-lit-edge", "stroke-width": width });
    if (sent) line.style.stroke = this.colourOf(edge);
    else line.classList.add("is-waiting");
    if (curve.free > 14 && few) line.setAttribute("marker-end", `url(#${this.arrow.id})`);
    if (!sent || !mapSide || !edge.message) return [halo, line];
    // A message over maps is a small map, halfway along its edge.
    const [middleX, middleY] = along(curve, 0.5);
    const place = { x: middleX - mapSide / 2, y: middleY - mapSide / 2, width: mapSide, height: mapSide };
    const map = picture(edge.message, ...scene.map_out, scene.largest.message, theme);
    const image = svg("image", { href: map.toDataURL(), ...place, class: "mr-map" });
    return [halo, line, image, svg("rect", { ...place, class: "mr-map-frame" })];
  }

  /** Discs in the colour of the share's mean, x or, once the node has updated, x'. */
  colourNodes() {
    const { scene, step, theme } = this.screen;
    [...this.nodes.children].forEach((group, v) => {
      const { done } = progress(scene, v, step);
      const { output, x } = scene.nodes[v];
      const fill = colour(done ? mean(output) / scene.largest.output : mean(x) / scene.largest.x, theme);
      const [, disc, number] = group.children;
      disc.style.fill = css(fill);
      if (number) number.style.fill = readableOn(fill);
    });
  }
}
