// The same round as one matrix: a block of weights where there is an edge, hatched where there is none.

import { colour, css, sides } from "./colours.js";
import { drawingWidth, element, fit, fitSvg, picture, section, svg } from "./elements.js";
import { TITLES } from "./screen.js";

const MATRIX_KEYS = "Block weight matrix. Arrow keys go from block to block, Enter or T adds or takes away the edge.";

/** Where the blocks of a matrix lie that is `size` CSS pixels wide, beside the numbers of nodes. */
function gridOf(scene, size) {
  const labels = scene.num_nodes <= 32 ? 20 : 6;
  const inner = size - labels - 2;
  const scaleX = inner / scene.inOffsets.at(-1);
  const scaleY = inner / scene.outOffsets.at(-1);
  return {
    size,
    height: labels + inner + 2,
    x: scene.inOffsets.map((offset) => labels + offset * scaleX),
    y: scene.outOffsets.map((offset) => labels + offset * scaleY),
  };
}

/** The blocks of one receiver beside each other, (rows, columns) with their kernels laid out, and where each begins. */
function rowOfBlocks(scene, edges, channelsOut) {
  const [kh, kw] = scene.kernel.length ? scene.kernel : [1, 1];
  const wide = edges.reduce((sum, { u }) => sum + scene.in_sizes[u] * kw, 0);
  const high = channelsOut * kh;
  const values = new Float64Array(high * wide);
  const begin = [];
  let start = 0;
  for (const { u, weights } of edges) {
    const columns = scene.in_sizes[u];
    for (let i = 0; i < weights.length; i++) {
      const [x, y] = [i % kw, Math.floor(i / kw) % kh];
      const [column, row] = [Math.floor(i / (kw * kh)) % columns, Math.floor(i / (kw * kh * columns))];
      values[(row * kh + y) * wide + start + column * kw + x] = weights[i];
    }
    begin.push([start, columns * kw]);
    start += columns * kw;
  }
  return { values, wide, high, begin };
}

export class MatrixView {
  constructor(screen) {
    this.screen = screen;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.bands = svg("g");
    this.svg = svg("svg", { role: "application", tabindex: 0, "aria-label": MATRIX_KEYS }, this.bands);
    this.box = element("div", { class: "mr-stage" }, this.canvas, this.svg);
    this.caption = element("p", { class: "mr-caption" });
    this.element = section("matrix", TITLES.matrix, this.box, this.caption);
    this.grid = null;
    this.svg.addEventListener("pointermove", (event) => screen.hover(this.partUnder(event)?.name ?? ""));
    this.svg.addEventListener("pointerleave", () => screen.hover(""));
    this.svg.addEventListener("click", (event) => this.click(event));
    this.svg.addEventListener("keydown", (event) => this.press(event));
  }

  draw(changed) {
    const { scene } = this.screen;
    if (changed.all) {
      this.grid = gridOf(scene, drawingWidth(this.box));
      this.drawMatrix();
      this.caption.textContent = "Row: receiver. Column: sender. " +
        `Colour: ${scene.matrix}, ${sides(scene.largest.weight)}. Hatched: no edge, no weights.`;
    }
    if (changed.all || changed.lit) this.drawBands();
  }

  drawMatrix() {
    const { grid } = this;
    const { scene } = this.screen;
    const context = fit(this.canvas, grid.size, grid.height);
    fitSvg(this.svg, grid.size, grid.height);
    this.drawHatch(context);
    context.imageSmoothingEnabled = false;
    if (scene.whole_blocks) scene.nodes.forEach((_, v) => this.drawRow(context, v));
    else this.drawMeans(context);
    if (scene.num_nodes <= 64) this.drawLines(context);
    if (scene.num_nodes <= 32) this.drawLabels(context);
  }

  /** Left, top, width and height of the block from u to v. */
  blockAt(u, v) {
    const { x, y } = this.grid;
    return [x[u], y[v], x[u + 1] - x[u], y[v + 1] - y[v]];
  }

  /** The whole matrix. */
  get frame() {
    const { x, y } = this.grid;
    return [x[0], y[0], x.at(-1) - x[0], y.at(-1) - y[0]];
  }

  /** Where there is no edge there is no weight: hatched, not zero. */
  drawHatch(context) {
    const dark = this.screen.theme === "dark";
    const hatch = element("canvas", { width: 6, height: 6 });
    const lines = hatch.getContext("2d");
    lines.strokeStyle = dark ? "#4a515c" : "#c9ced6";
    lines.lineWidth = 1;
    lines.beginPath();
    lines.moveTo(-1, 7);
    lines.lineTo(7, -1);
    lines.stroke();
    context.fillStyle = dark ? "#15181d" : "#ffffff";
    context.fillRect(...this.frame);
    context.fillStyle = context.createPattern(hatch, "repeat");
    context.fillRect(...this.frame);
  }

  /** A receiver's blocks, from one image: an image for each block takes longer. */
  drawRow(context, v) {
    const { scene, theme } = this.screen;
    const edges = scene.edges.slice(scene.begin[v] - v, scene.begin[v + 1] - v - 1);
    const { values, wide, high, begin } = rowOfBlocks(scene, edges, scene.out_sizes[v]);
    if (!wide || !high) return;
    const image = picture(values, high, wide, scene.largest.weight, theme);
    edges.forEach(({ u }, i) => {
      const [start, columns] = begin[i];
      if (columns) context.drawImage(image, start, 0, columns, high, ...this.blockAt(u, v));
    });
  }

  /** Blocks of which one number is known. */
  drawMeans(context) {
    const { scene, theme } = this.screen;
    for (const { u, v, weights } of scene.edges) {
      context.fillStyle = css(colour(weights[0] / scene.largest.weight, theme));
      context.fillRect(...this.blockAt(u, v));
    }
  }

  drawLines(context) {
    const { x, y } = this.grid;
    const [left, top, width, height] = this.frame;
    const { scene, theme } = this.screen;
    context.strokeStyle = theme === "dark" ? "rgba(200,210,220,.35)" : "rgba(60,70,80,.35)";
    context.lineWidth = scene.num_nodes <= 24 ? 1 : 0.4;
    context.beginPath();
    for (let i = 0; i <= scene.num_nodes; i++) {
      context.moveTo(x[i], top);
      context.lineTo(x[i], top + height);
      context.moveTo(left, y[i]);
      context.lineTo(left + width, y[i]);
    }
    context.stroke();
  }

  drawLabels(context) {
    const { x, y } = this.grid;
    const { scene, theme } = this.screen;
    context.fillStyle = theme === "dark" ? "#c3c9d2" : "#4a5360";
    context.font = `${scene.num_nodes <= 16 ? 11 : 8}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let v = 0; v < scene.num_nodes; v++) {
      context.fillText(v, (x[v] + x[v + 1]) / 2, y[0] / 2 + 1);
      context.fillText(v, x[0] / 2, (y[v] + y[v + 1]) / 2);
    }
  }

  /** The row and the column of what is pointed at or selected. */
  drawBands() {
    const { x, y } = this.grid;
    const { lit, scene } = this.screen;
    const n = scene.num_nodes;
    const band = (u0, u1, v0, v1, kind) =>
      svg("rect", { x: x[u0], y: y[v0], width: x[u1] - x[u0], height: y[v1] - y[v0], class: `mr-band ${kind}` });
    let made = [];
    if (lit && lit.node !== undefined) {
      made = [band(lit.node, lit.node + 1, 0, n, "is-column"), band(0, n, lit.node, lit.node + 1, "is-row")];
    } else if (lit) {
      const { u, v } = lit;
      made = [band(0, n, v, v + 1, "is-faint"), band(u, u + 1, 0, n, "is-faint"), band(u, u + 1, v, v + 1, "is-block")];
    }
    this.bands.replaceChildren(...made);
  }

  /** The block under the pointer, or the node whose number is there. */
  partUnder(event) {
    const { grid } = this;
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) * grid.size) / box.width;
    const y = ((event.clientY - box.top) * grid.height) / box.height;
    const find = (edges, at) => edges.findIndex((edge, i) => at >= edge && at < edges[i + 1]);
    const [u, v] = [find(grid.x, x), find(grid.y, y)];
    if (u >= 0 && v >= 0) return { u, v, name: `edge:${u}-${v}` };
    const node = Math.max(u, v);
    return node >= 0 ? { name: `node:${node}` } : null;
  }

  click(event) {
    const { screen } = this;
    const part = this.partUnder(event);
    if (part && screen.editing && part.u !== undefined) screen.toggle(part.u, part.v);
    else screen.keep(part?.name ?? "");
  }

  press(event) {
    const { screen } = this;
    const { lit } = screen;
    const n = screen.scene.num_nodes;
    const onBlock = lit && lit.node === undefined;
    const [u, v] = onBlock ? [lit.u, lit.v] : lit ? [lit.node, lit.node] : [0, 0];
    const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (by && onBlock) screen.walkTo((u + by[0] + n) % n, (v + by[1] + n) % n);
    else if (by) screen.walkTo(u, v);
    else if (event.key === "Home") screen.walkTo(0, 0);
    else if (event.key === "End") screen.walkTo(n - 1, n - 1);
    else if (event.key === "Enter" || event.key === " " || event.key.toLowerCase() === "t") screen.toggle(u, v);
    else return;
    event.preventDefault();
  }
}
