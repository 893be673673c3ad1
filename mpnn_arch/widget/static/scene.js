// A recorded scene, see scene.py: its numbers, its edges, and what has been sent after some steps.

import { clamp, largestOf, offsetsOf, range, unpack } from "./numbers.js";

const PACKED = [
  "mean", "size", "x", "aggregate", "output", "dense", "bias", "residual", "messages", "partial", "weights",
];

/** A scene with its numbers unpacked, its edges listed, and where each node's steps begin. */
export function decode(scene) {
  const pixels = (map) => map.reduce((product, side) => product * side, 1);
  const made = {
    ...scene,
    pixelsIn: pixels(scene.map_in),
    pixelsOut: pixels(scene.map_out),
    kernelArea: pixels(scene.kernel),
    inOffsets: offsetsOf(scene.in_sizes),
    outOffsets: offsetsOf(scene.out_sizes),
    edges: [],
    edgeAt: new Map(),
    begin: [0],
  };
  made.nodes = range(scene.num_nodes).map((v) => {
    const node = { ...scene.nodes[v] };
    for (const key of PACKED) node[key] = unpack(node[key]);
    for (const edge of edgesInto(made, v, node)) {
      made.edgeAt.set(`${edge.u}-${v}`, edge);
      made.edges.push(edge);
    }
    made.begin.push(made.begin.at(-1) + node.sources.length + 1);
    return node;
  });
  made.total = made.begin.at(-1);
  made.largest = largestNumbers(made.nodes);
  return made;
}

/** The edges that node v receives on, each with its part of the node's numbers. */
function edgesInto(scene, v, node) {
  const share = scene.out_sizes[v] * scene.pixelsOut;
  let start = 0;
  return node.sources.map((u, place) => {
    const entries = scene.whole_blocks ? scene.out_sizes[v] * scene.in_sizes[u] * scene.kernelArea : 1;
    const part = (all) => all && all.subarray(place * share, (place + 1) * share);
    const weights = node.weights.subarray(start, start + entries);
    start += entries;
    return {
      u,
      v,
      place,
      index: scene.edges.length + place,
      mean: node.mean[place],
      size: node.size[place],
      weights,
      message: part(node.messages),
      partial: part(node.partial),
    };
  });
}

function largestNumbers(nodes) {
  return {
    weight: largestOf(nodes.map((node) => node.weights)),
    mean: largestOf(nodes.map((node) => node.mean)),
    size: largestOf(nodes.map((node) => node.size)),
    x: largestOf(nodes.map((node) => node.x)),
    message: largestOf(nodes.map((node) => node.messages ?? node.mean)),
    aggregate: largestOf(nodes.flatMap((node) => [node.aggregate, node.partial])),
    output: largestOf(nodes.flatMap((node) => [node.output, node.dense])),
  };
}

/** How many nodes have updated after `step` steps. */
export const updatesIn = (scene, step) => scene.begin.findLastIndex((boundary) => boundary <= step);

/** How many messages have been sent after `step` steps: these are the first of `scene.edges`. */
export const messagesIn = (scene, step) => step - updatesIn(scene, step);

/** Messages that node v has received after `step` steps, and whether it has updated. */
export function progress(scene, v, step) {
  const degree = scene.nodes[v].sources.length;
  return {
    arrived: clamp(step - scene.begin[v], 0, degree),
    done: step >= scene.begin[v + 1],
  };
}

/** Whether an edge's message has been sent after `step` steps. */
export const isSent = (scene, edge, step) => edge.place < progress(scene, edge.v, step).arrived;

/** What the last of `step` steps did: `{edge}`, `{node}`, or null for none. */
export function lastEvent(scene, step) {
  if (step < 1 || step > scene.total) return null;
  let v = 0;
  while (scene.begin[v + 1] < step) v++;
  const place = step - 1 - scene.begin[v];
  const u = scene.nodes[v].sources[place];
  return u === undefined ? { node: v } : { edge: scene.edgeAt.get(`${u}-${v}`) };
}

/** "node:3" and "edge:5-3" taken apart. */
export function parsePart(name) {
  const node = /^node:(\d+)$/.exec(name);
  if (node) return { name, node: Number(node[1]) };
  const edge = /^edge:(\d+)-(\d+)$/.exec(name);
  return edge ? { name, u: Number(edge[1]), v: Number(edge[2]) } : null;
}

/** The name of what an event of `lastEvent` is about. */
export const nameOf = (event) =>
  !event ? "" : event.edge ? `edge:${event.edge.u}-${event.edge.v}` : `node:${event.node}`;
