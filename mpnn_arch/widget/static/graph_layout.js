// Where nodes and edges lie: nodes on a circle, edges bent to its middle.

import { clamp, range } from "./numbers.js";

/** Places on a square of `size` CSS pixels: of each node `at`, of each edge a curve, and the nodes' radii. */
export function layout(scene, size) {
  const n = scene.num_nodes;
  const loop = n <= 64 ? 10 : 4;
  const rings = n <= 32 ? 2 : 1; // of ticks: x and x', or x' in the place of x
  // Nodes with their ticks take some 4 / 5 of the circle on which they lie.
  const share = (0.4 * 2 * Math.PI) / n;
  const room = size / 2 - loop - 6;
  const rim = Math.min(0.08 * size, (share * room) / (1 + share));
  const radius = rim * (rings === 2 ? 0.48 : 0.6);
  const gap = clamp(0.05 * rim, 0.5, 2);
  const tick = (rim - radius) / rings - gap;
  const middle = size / 2;
  const at = range(n).map((v) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * v) / n;
    return { angle, x: middle + (room - rim) * Math.cos(angle), y: middle + (room - rim) * Math.sin(angle) };
  });
  const curves = scene.edges.map(({ u, v }) =>
    u === v ? loopAt(at[u], rim, loop) : bentCurve(at[u], at[v], { middle, size, rim }));
  return { size, radius, tick, gap, rings, rim, at, curves };
}

function loopAt(node, rim, diameter) {
  const away = rim + diameter / 2;
  const [x, y] = [node.x + Math.cos(node.angle) * away, node.y + Math.sin(node.angle) * away];
  return { loop: true, x, y, r: diameter / 2 };
}

function bentCurve(a, b, { middle, size, rim }) {
  const [mx, my] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
  const length = Math.hypot(b.x - a.x, b.y - a.y);
  // Bent to the middle, the more the longer, and each direction to its own left.
  const bend = 0.15 + (0.3 * length) / size;
  const cx = mx + (middle - mx) * bend - (b.y - a.y) * 0.06;
  const cy = my + (middle - my) * bend + (b.x - a.x) * 0.06;
  const trim = Math.min(0.4, rim / length);
  return { a, b, cx, cy, trim, free: length * (1 - 2 * trim) };
}

/** The point of a curve at t. */
export function along(curve, t) {
  if (curve.loop) {
    const angle = 2 * Math.PI * t;
    return [curve.x + curve.r * Math.cos(angle), curve.y + curve.r * Math.sin(angle)];
  }
  const s = 1 - t;
  return [
    s * s * curve.a.x + 2 * s * t * curve.cx + t * t * curve.b.x,
    s * s * curve.a.y + 2 * s * t * curve.cy + t * t * curve.b.y,
  ];
}

/** A curve from rim to rim, as SVG path data. */
export function pathOf(curve) {
  if (curve.loop) {
    const { x, y, r } = curve;
    return `M${x - r} ${y}A${r} ${r} 0 1 1 ${x + r} ${y}A${r} ${r} 0 1 1 ${x - r} ${y}`;
  }
  const [from, to] = [curve.trim, 1 - curve.trim];
  const [start, end] = [along(curve, from), along(curve, to)];
  const mix = (p, c, q, s, t) => (1 - s) * (1 - t) * p + ((1 - s) * t + s * (1 - t)) * c + s * t * q;
  const control = [mix(curve.a.x, curve.cx, curve.b.x, from, to), mix(curve.a.y, curve.cy, curve.b.y, from, to)];
  return `M${start}Q${control} ${end}`;
}

/** A curve from middle to middle on a canvas. */
export function stroke(context, curve) {
  context.beginPath();
  if (curve.loop) context.arc(curve.x, curve.y, curve.r, 0, 2 * Math.PI);
  else {
    context.moveTo(curve.a.x, curve.a.y);
    context.quadraticCurveTo(curve.cx, curve.cy, curve.b.x, curve.b.y);
  }
  context.stroke();
}
