"use strict";
// The page's data: `analyses` (landscapes, edges, graphs, charts), `common` charts, `drawings`.
const data = JSON.parse(document.getElementById("data").textContent);
const options = { responsive: true, displaylogo: false, displayModeBar: false };
let resolution = "coarse";
let chosen = null; // { c, l }: the middle of the chosen bin

const dark = matchMedia("(prefers-color-scheme: dark)");
const figures = new Map(); // those drawn so far, by their places
// Of the palette, what is too dark for a dark ground, and what takes its place.
const ON_DARK = new Map([["#0072B2", "#56B4E9"], ["#56B4E9", "#0072B2"], ["#000000", "#e8ebf0"]]);

function traces(figure) {
  if (!dark.matches) return figure.data;
  return JSON.parse(JSON.stringify(figure.data), (key, value) => ON_DARK.get(value) ?? value);
}

// What a chart leaves open takes the colours of the page.
function template() {
  const style = getComputedStyle(document.documentElement);
  const [ink, panel, line, grid] = ["ink", "panel", "quiet", "grid"].map((name) => style.getPropertyValue(`--${name}`).trim());
  const axis = { linecolor: line, gridcolor: grid };
  return { layout: { font: { color: ink }, paper_bgcolor: panel, plot_bgcolor: panel, xaxis: axis, yaxis: axis } };
}

// A title on as many lines as it takes at this width; plotly would cut it.
function title(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (longer.length * 8 > width && lines.at(-1)) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

function plot(target, figure) {
  figures.set(target, figure);
  // The numbers in a chart say nothing when they are read aloud; they are in the tables.
  target.setAttribute("role", "img");
  target.setAttribute("aria-label", figure.layout.title.text);
  const lines = title(figure.layout.title.text, target.clientWidth);
  const more = 18 * (lines.length - 1);
  const layout = {
    ...figure.layout,
    title: { ...figure.layout.title, text: lines.join("<br>") },
    height: figure.layout.height + more,
    margin: { ...figure.layout.margin, t: figure.layout.margin.t + more },
    shapes: target.layout?.shapes ?? [],
    template: template(),
  };
  return Plotly.react(target, traces(figure), layout, options);
}

dark.addEventListener("change", () => {
  for (const [target, figure] of figures) plot(target, figure);
});

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// The bin that the middle of a bin lies in; -1 outside.
function place(edges, value) {
  for (let i = 0; i + 1 < edges.length; i++) {
    if (edges[i] <= value && value <= edges[i + 1]) return i;
  }
  return -1;
}

function binOf(analysis) {
  const { c, l } = analysis.edges[resolution];
  return [place(c, chosen.c), place(l, chosen.l)];
}

function graphsIn(analysis) {
  const [cBin, lBin] = binOf(analysis);
  const fine = resolution === "fine" ? 2 : 0;
  return analysis.graphs.filter((g) => g.bins[fine] === cBin && g.bins[fine + 1] === lBin && cBin >= 0);
}

function outline(analysis, target) {
  const [cBin, lBin] = binOf(analysis);
  const { c, l } = analysis.edges[resolution];
  const shapes = cBin < 0 || lBin < 0 ? [] : [{
    type: "rect", x0: c[cBin], x1: c[cBin + 1], y0: l[lBin], y1: l[lBin + 1],
    line: { color: "#d55e00", width: 3 },
  }];
  Plotly.relayout(target, { shapes });
}

function listGraphs() {
  const panel = document.getElementById("bin");
  panel.replaceChildren(make("h3", `Bin around C ${chosen.c.toFixed(3)}, L ${chosen.l.toFixed(3)}`));
  let first = null;
  for (const analysis of data.analyses) {
    const graphs = graphsIn(analysis);
    const errors = graphs.length === 0 ? "no graph here"
      : `${graphs.length} graph${graphs.length > 1 ? "s" : ""}, mean error `
        + `${(graphs.reduce((sum, g) => sum + g.mean, 0) / graphs.length).toFixed(2)} %`;
    panel.append(make("h4", `${analysis.name}: ${errors}`));
    if (graphs.length === 0) continue;
    const table = make("table", null);
    const head = make("tr", null);
    for (const title of ["graph", "C", "L", "density", "error (%)"]) head.append(make("th", title));
    table.append(head);
    for (const graph of graphs) {
      const row = make("tr", null, { class: "graph" });
      const button = make("button", graph.short, { type: "button", title: graph.name });
      button.addEventListener("click", () => drawGraph(graph, row));
      const cell = make("td", null);
      cell.append(button);
      row.append(cell);
      const spread = graph.std === null ? "" : ` ± ${graph.std.toFixed(2)}`;
      for (const text of [graph.c.toFixed(3), graph.l.toFixed(3), graph.density.toFixed(3),
        graph.mean.toFixed(2) + spread]) row.append(make("td", text));
      table.append(row);
      if (first === null && data.drawings[graph.name] !== undefined) first = [graph, row];
    }
    const scroll = make("div", null, { class: "scroll" });
    scroll.append(table);
    panel.append(scroll);
  }
  if (first === null) document.getElementById("drawing").replaceChildren();
  else drawGraph(...first);
}

// The upper triangle of the adjacency, row by row, as the bits of base64 text.
function edgesOf(name) {
  const { nodes, bits } = data.drawings[name];
  const octets = Uint8Array.from(atob(bits), (letter) => letter.charCodeAt(0));
  const edges = [];
  let bit = 0;
  for (let i = 0; i < nodes; i++) {
    for (let j = i + 1; j < nodes; j++, bit++) {
      if (octets[bit >> 3] & (128 >> (bit & 7))) edges.push([i, j]);
    }
  }
  return { nodes, edges };
}

function drawGraph(graph, row) {
  for (const other of document.querySelectorAll("tr.drawn")) other.classList.remove("drawn");
  row.classList.add("drawn");
  const figure = document.getElementById("drawing");
  if (data.drawings[graph.name] === undefined) {
    figure.replaceChildren(make("figcaption", `${graph.short} cannot be drawn: its edges are not known.`));
    return;
  }
  const { nodes, edges } = edgesOf(graph.name);
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "-110 -110 220 220");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${graph.short}: ${nodes} nodes on a ring, ${edges.length} edges`);
  const at = (v) => [100 * Math.sin(2 * Math.PI * v / nodes), -100 * Math.cos(2 * Math.PI * v / nodes)];
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", edges.map(([i, j]) => `M${at(i).map((x) => x.toFixed(1))}L${at(j).map((x) => x.toFixed(1))}`).join(""));
  path.setAttribute("stroke-opacity", Math.max(0.06, Math.min(0.8, 120 / edges.length)).toFixed(2));
  path.setAttribute("stroke-width", "0.7");
  svg.append(path);
  for (let v = 0; v < nodes; v++) {
    const dot = document.createElementNS(space, "circle");
    const [x, y] = at(v);
    dot.setAttribute("cx", x.toFixed(1));
    dot.setAttribute("cy", y.toFixed(1));
    dot.setAttribute("r", Math.min(4, 120 / nodes).toFixed(1));
    svg.append(dot);
  }
  figure.replaceChildren(svg, make("figcaption",
    `${graph.name}: ${nodes} nodes, ${edges.length} edges; C ${graph.c.toFixed(3)}, `
    + `L ${graph.l.toFixed(3)}; ${graph.mean.toFixed(2)} % error.`));
}

function choose(c, l) {
  chosen = { c, l };
  const menu = document.getElementById("bins");
  menu.value = [c, l].join();
  if (menu.selectedIndex < 0) menu.selectedIndex = 0; // of another resolution
  data.analyses.forEach((analysis, i) => {
    if (analysis.landscapes[resolution] !== undefined) outline(analysis, document.getElementById(`landscape-${i}`));
  });
  listGraphs();
}

// Every bin that holds a graph, by its middle, lowest error first: for those who cannot click one.
function listBins() {
  const fine = resolution === "fine" ? 2 : 0;
  const bins = new Map();
  for (const { edges, graphs } of data.analyses) {
    const { c, l } = edges[resolution];
    for (const graph of graphs) {
      const [cBin, lBin] = [graph.bins[fine], graph.bins[fine + 1]];
      if (cBin < 0 || lBin < 0) continue;
      const middle = [(c[cBin] + c[cBin + 1]) / 2, (l[lBin] + l[lBin + 1]) / 2];
      const key = middle.map((value) => value.toFixed(4)).join();
      if (!bins.has(key)) bins.set(key, { middle, errors: [] });
      bins.get(key).errors.push(graph.mean);
    }
  }
  const mean = ({ errors }) => errors.reduce((sum, error) => sum + error, 0) / errors.length;
  const menu = document.getElementById("bins");
  const options = [...bins.values()].sort((a, b) => mean(a) - mean(b)).map((bin) => {
    const [c, l] = bin.middle;
    const count = `${bin.errors.length} graph${bin.errors.length > 1 ? "s" : ""}`;
    return make("option", `C ${c.toFixed(3)}, L ${l.toFixed(3)}: ${count}, ${mean(bin).toFixed(2)} %`, { value: bin.middle.join() });
  });
  menu.replaceChildren(make("option", "choose a bin", { value: "" }), ...options);
}

document.getElementById("bins").addEventListener("change", ({ target }) => {
  if (target.value) choose(...target.value.split(",").map(Number));
});

async function drawLandscapes() {
  listBins();
  const row = document.getElementById("landscapes");
  // All places first: plotly takes the width that it finds.
  for (const i of data.analyses.keys()) {
    if (document.getElementById(`landscape-${i}`) === null) {
      // In a box of its own: plotly takes the width with what is padded.
      const box = make("div", null, { class: "chart" });
      box.append(make("div", null, { id: `landscape-${i}` }));
      row.append(box);
    }
  }
  for (const [i, analysis] of data.analyses.entries()) {
    const figure = analysis.landscapes[resolution];
    if (figure === undefined) continue;
    const target = document.getElementById(`landscape-${i}`);
    await plot(target, figure);
    target.removeAllListeners("plotly_click");
    target.on("plotly_click", (event) => choose(event.points[0].x, event.points[0].y));
  }
  if (chosen !== null) choose(chosen.c, chosen.l);
}

for (const which of ["coarse", "fine"]) {
  document.getElementById(which).addEventListener("click", () => {
    resolution = which;
    for (const other of ["coarse", "fine"]) {
      document.getElementById(other).setAttribute("aria-pressed", String(other === which));
    }
    drawLandscapes();
  });
}

// Charts are drawn when they come near the window: thousands of points each.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    const [group, index] = entry.target.dataset.chart.split("/");
    const charts = group === "common" ? data.common : data.analyses[Number(group)].charts;
    plot(entry.target, charts[Number(index)]);
  }
}, { rootMargin: "400px" });
for (const target of document.querySelectorAll("[data-chart]")) watcher.observe(target);

drawLandscapes().then(() => { document.body.dataset.ready = "true"; });
