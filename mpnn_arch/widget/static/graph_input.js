// What the mouse, a finger and the keys do on the graph.

import { along } from "./graph_layout.js";
import { parsePart } from "./scene.js";

const NEAR = 7; // pixels from an edge that count as on it

const nodeUnder = (event) => event.target.closest?.(".mr-node")?.dataset.node;

/** Pointing at nodes and edges, selecting them, and editing edges by a click or a drag. */
export class GraphPointer {
  constructor(view) {
    this.view = view;
    this.screen = view.screen;
    this.dragging = null; // the node that a drag began on
    this.dragged = false; // whether a drag ended just now: the click that follows is its own
  }

  listen() {
    const { svg } = this.view;
    svg.addEventListener("pointermove", (event) => this.move(event));
    svg.addEventListener("pointerdown", (event) => this.press(event));
    svg.addEventListener("pointerup", (event) => this.release(event));
    svg.addEventListener("click", (event) => this.click(event));
    svg.addEventListener("pointerleave", () => {
      this.dragging = null;
      this.screen.hover("");
    });
  }

  move(event) {
    const { dragging, screen } = this;
    const v = nodeUnder(event);
    if (v !== undefined) screen.hover(dragging === null || dragging === v ? `node:${v}` : `edge:${dragging}-${v}`);
    else if (dragging === null) {
      const edge = this.edgeNear(event);
      screen.hover(edge ? `edge:${edge.u}-${edge.v}` : "");
    }
  }

  press(event) {
    // A finger would hold the node that it began on, so that no other one is under it.
    if (event.target.hasPointerCapture?.(event.pointerId)) event.target.releasePointerCapture(event.pointerId);
    this.dragging = this.screen.editing ? (nodeUnder(event) ?? null) : null;
    this.dragged = false;
  }

  release(event) {
    const v = nodeUnder(event);
    this.dragged = this.dragging !== null && v !== this.dragging;
    if (this.dragged && v !== undefined) this.screen.toggle(Number(this.dragging), Number(v));
    this.dragging = null;
  }

  click(event) {
    if (this.dragged) return;
    const { screen } = this;
    const v = nodeUnder(event);
    const edge = v === undefined ? this.edgeNear(event) : null;
    if (edge && screen.editing) screen.toggle(edge.u, edge.v);
    else if (edge) screen.keep(`edge:${edge.u}-${edge.v}`);
    else if (v === undefined) screen.select("");
    else if (!screen.editing) screen.keep(`node:${v}`);
    // An arc takes no focus, and the keys that follow are for its message.
    if (edge && screen.model.get("selected")) this.view.nodes.children[edge.v].focus({ preventScroll: true });
  }

  edgeNear(event) {
    const { shape, svg } = this.view;
    const box = svg.getBoundingClientRect();
    const scale = shape.size / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = null;
    let nearest = NEAR ** 2;
    shape.curves.forEach((curve, i) => {
      for (let k = 1; k < 16; k++) {
        const [px, py] = along(curve, k / 16);
        const distance = (px - x) ** 2 + (py - y) ** 2;
        if (distance < nearest) [best, nearest] = [this.screen.scene.edges[i], distance];
      }
    });
    return best;
  }
}

/** Keys: from node to node, through the messages that a node receives, and T for an edge. */
export function walkGraph({ screen, svg, box, nodes }) {
  // On the box: a listener for focus would make the SVG itself a stop of the Tab key.
  box.addEventListener("focusin", (event) => {
    const v = nodeUnder(event);
    if (v === undefined) return;
    for (const node of nodes.children) node.setAttribute("tabindex", node === event.target ? 0 : -1);
    const selected = parsePart(screen.model.get("selected"));
    if (event.target.matches(":focus-visible") && selected?.v !== Number(v)) screen.select(`node:${v}`);
  });
  svg.addEventListener("keydown", (event) => {
    const v = Number(nodeUnder(event));
    if (Number.isNaN(v)) return;
    const { lit, scene } = screen;
    const n = scene.num_nodes;
    const { sources } = scene.nodes[v];
    const place = lit && lit.v === v ? sources.indexOf(lit.u) : -1;
    const to = { ArrowRight: v + 1, ArrowLeft: v - 1 + n, Home: 0, End: n - 1 }[event.key];
    const by = { ArrowDown: 1, ArrowUp: place < 0 ? 0 : -1 }[event.key];
    if (to !== undefined) {
      nodes.children[to % n].focus();
      screen.select(`node:${to % n}`);
    } else if (by !== undefined && sources.length) {
      screen.walkTo(sources[(place + by + sources.length) % sources.length], v);
    } else if (event.key === "Enter" || event.key === " ") screen.select(`node:${v}`);
    else if (event.key.toLowerCase() === "t" && lit && lit.u !== undefined) screen.toggle(lit.u, lit.v);
    else return;
    event.preventDefault();
  });
}
