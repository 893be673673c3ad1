// One round of message exchange, drawn from its recorded scene. Nothing here computes a layer: every
// number comes from Python, see scene.py. In a notebook anywidget calls `render`; an exported page
// calls `renderRecorded`, whose model answers from the scenes recorded in the page.

const VIEWS = ["graph", "matrix", "equation"];
const VIEW_NAMES = { graph: "Graph", matrix: "Weight matrix", equation: "Equation" };
const FACTS = [
  ["nodes", "nodes"],
  ["edges", "edges"],
  ["clustering_coefficient", "clustering C"],
  ["average_path_length", "path length L"],
  ["parameters", "parameters"],
  ["multiply_adds", "multiply-adds"],
];
const MOST_NODES_DRAWN = 256; // above, the matrix alone
const MOST_ROWS = 12; // of messages in the equation
const KEY = ["round_index", "sample", "aggr", "message"]; // what Python is asked for, beside "toggled"
const SLOW = [1.5, 15]; // seconds without an answer after which that is said
const CELL = 46; // pixels that a number takes
const SVG = "http://www.w3.org/2000/svg";
const MATH = "http://www.w3.org/1998/Math/MathML";

// -- numbers -----------------------------------------------------------------------------------

/** The numbers that scene.py packed: "scale;base64 of little-endian int16". */
function unpack(text) {
  if (text === undefined) return null;
  const [scale, data] = text.split(";");
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const numbers = new Float64Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i++) {
    const whole = view.getInt16(2 * i, true);
    numbers[i] = whole === -32768 ? NaN : whole * Number(scale);
  }
  return numbers;
}

/** A JSON merge patch (RFC 7396), as patch.py writes it. */
function patched(old, patch) {
  const made = { ...old };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete made[key];
    else if (typeof value === "object" && !Array.isArray(value)) made[key] = patched(made[key] ?? {}, value);
    else made[key] = value;
  }
  return made;
}

const largestOf = (lists) => {
  let largest = 0;
  for (const list of lists) for (const x of list ?? []) if (Math.abs(x) > largest) largest = Math.abs(x);
  return largest || 1;
};
const mean = (list) => list.reduce((sum, x) => sum + x, 0) / (list.length || 1);
const offsetsOf = (sizes) => sizes.reduce((sums, size) => [...sums, sums.at(-1) + size], [0]);
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
const range = (n) => Array.from({ length: n }, (_, i) => i);

/** A number beside others of which the largest is `largest`, to three of its digits. */
function shown(number, largest = number) {
  if (Number.isNaN(number)) return "n/a";
  const size = Math.abs(largest);
  if (number !== 0 && (size < 0.01 || size >= 100000)) return number.toExponential(1).replace("e+", "e").replaceAll("-", "\u2212");
  const decimals = size === 0 ? 2 : clamp(2 - Math.floor(Math.log10(size)), 0, 4);
  return number.toFixed(decimals).replace(/^-(?=0\.?0*$)/, "").replace("-", "\u2212");
}

function shownFact(name, value, nodes) {
  if (value === undefined || value === null) return nodes === 1 ? "one node" : "not connected";
  return /clustering|path/.test(name) ? value.toFixed(3) : value.toLocaleString("en");
}

function messages(count) {
  return count === 1 ? "1 message" : `${count} messages`;
}

/** A scene with its numbers unpacked, its edges listed, and where each node's steps begin. */
function decode(scene) {
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
  const packed = ["mean", "size", "x", "aggregate", "output", "dense", "bias", "residual", "messages", "partial", "weights"];
  made.nodes = range(scene.num_nodes).map((v) => {
    const node = { ...scene.nodes[v] };
    for (const key of packed) node[key] = unpack(node[key]);
    let start = 0;
    node.sources.forEach((u, place) => {
      const entries = scene.whole_blocks ? scene.out_sizes[v] * scene.in_sizes[u] * made.kernelArea : 1;
      const share = scene.out_sizes[v] * made.pixelsOut;
      const part = (all) => all && all.subarray(place * share, (place + 1) * share);
      const edge = {
        u,
        v,
        place,
        index: made.edges.length,
        mean: node.mean[place],
        size: node.size[place],
        weights: node.weights.subarray(start, start + entries),
        message: part(node.messages),
        partial: part(node.partial),
      };
      start += entries;
      made.edgeAt.set(`${u}-${v}`, edge);
      made.edges.push(edge);
    });
    made.begin.push(made.begin.at(-1) + node.sources.length + 1);
    return node;
  });
  made.total = made.begin.at(-1);
  made.largest = {
    weight: largestOf(made.nodes.map((node) => node.weights)),
    mean: largestOf(made.nodes.map((node) => node.mean)),
    size: largestOf(made.nodes.map((node) => node.size)),
    x: largestOf(made.nodes.map((node) => node.x)),
    message: largestOf(made.nodes.map((node) => node.messages ?? node.mean)),
    aggregate: largestOf(made.nodes.flatMap((node) => [node.aggregate, node.partial])),
    output: largestOf(made.nodes.flatMap((node) => [node.output, node.dense])),
  };
  return made;
}

/** Messages that node v has received after `step` steps, and whether it has updated. */
function progress(scene, v, step) {
  const degree = scene.nodes[v].sources.length;
  return {
    arrived: clamp(step - scene.begin[v], 0, degree),
    done: step >= scene.begin[v + 1],
  };
}

/** What the last of `step` steps did: `{edge}`, `{node}`, or null for none. */
function lastEvent(scene, step) {
  if (step < 1 || step > scene.total) return null;
  let v = 0;
  while (scene.begin[v + 1] < step) v++;
  const place = step - 1 - scene.begin[v];
  const u = scene.nodes[v].sources[place];
  return u === undefined ? { node: v } : { edge: scene.edgeAt.get(`${u}-${v}`) };
}

/** "node:3" and "edge:5-3" taken apart. */
function parsePart(name) {
  const node = /^node:(\d+)$/.exec(name);
  if (node) return { name, node: Number(node[1]) };
  const edge = /^edge:(\d+)-(\d+)$/.exec(name);
  return edge ? { name, u: Number(edge[1]), v: Number(edge[2]) } : null;
}

// -- colours -----------------------------------------------------------------------------------

// Blue, neutral, orange: told apart by readers with every common kind of colour blindness.
const SCALES = {
  light: [[8, 81, 156], [66, 146, 198], [245, 245, 243], [230, 133, 30], [153, 61, 0]],
  dark: [[130, 196, 255], [44, 116, 179], [38, 42, 48], [190, 98, 18], [255, 190, 110]],
};

/** A number of -1 to 1 as [r, g, b]. */
function colour(value, theme) {
  const stops = SCALES[theme];
  if (Number.isNaN(value)) return [128, 128, 128];
  const at = (clamp(value, -1, 1) + 1) * 2;
  const low = Math.min(3, Math.floor(at));
  return range(3).map((i) => Math.round(stops[low][i] + (at - low) * (stops[low + 1][i] - stops[low][i])));
}
const sides = (largest) => `blue below 0, orange above, within \u00b1${shown(largest)}`;
const css = (rgb) => `rgb(${rgb.join(",")})`;

function readableOn(rgb) {
  const [r, g, b] = rgb.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

function themeOf(model, el) {
  const asked = model.get("theme");
  if (asked !== "auto") return asked;
  const jupyter = document.body.dataset.jpThemeLight;
  if (jupyter) return jupyter === "false" ? "dark" : "light";
  if (el.closest(".dark, .vscode-dark, .vscode-high-contrast, [data-theme='dark']:not(.mr)")) return "dark";
  if (document.body.matches(".vscode-light, .light")) return "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

// -- elements ----------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function math(tag, ...children) {
  const made = document.createElementNS(MATH, tag);
  made.append(...children);
  if (tag === "mspace") made.setAttribute("width", "0.35em");
  return made;
}

/** "W_vu x_u + b_vu" as MathML; `names` puts node numbers in the place of u and v. */
function formula(text, names = {}) {
  const row = math("mrow");
  for (const [, name, below, sign] of text.matchAll(/([A-Za-z]+\d?)(?:_([a-z]+))?|([^\sA-Za-z])/g)) {
    if (sign) {
      row.append(math("mo", sign === "*" ? "\u2217" : sign));
      continue;
    }
    const letter = math("mi", name === "alpha" ? "\u03b1" : name);
    if (/^[A-Z]\d?$/.test(name)) letter.setAttribute("class", "mr-bold");
    if (!below) row.append(letter);
    else row.append(math("msub", letter, math("mrow", ...[...below].flatMap((b, i) => [...(i && names.u !== undefined ? [math("mo", ",")] : []), math("mi", String(names[b] ?? b))]))));
  }
  return row;
}

/** A canvas of `width` x `height` CSS pixels, sharp on this screen. */
function fit(canvas, width, height) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/** Numbers as an image of `rows` x `columns` pixels. */
function picture(values, rows, columns, largest, theme) {
  const canvas = element("canvas", { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const [r, g, b] = colour(values[i] / largest, theme);
    image.data.set([r, g, b, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// -- the widget --------------------------------------------------------------------------------

function render({ model, el }) {
  const root = element("div", { class: "mr" });
  el.style.flex ||= "1 1 auto"; // several in a row share it
  el.append(root);
  let scene = null;
  let theme = "light";
  let hovered = "";
  let editing = false;
  let frame = 0;
  let drawn = {}; // what the canvases show now, so that only what changed is drawn again
  let timer = null;
  let toggledPart = null; // whose new state is still to be said

  const set = (changes) => {
    for (const [key, value] of Object.entries(changes)) model.set(key, value);
    model.save_changes();
    if (!model.answers && [...KEY, "toggled"].some((key) => key in changes)) expectAnswer();
  };

  // The menus show what is asked for at once, the numbers when Python has answered.
  let waits = [];
  function answered() {
    waits.forEach(clearTimeout);
    waits = [];
    waiting.textContent = "";
  }
  function expectAnswer() {
    answered();
    const sentences = ["Python computes what was asked for; the numbers are those from before.",
      `Python has not answered for ${SLOW[1]} seconds: it is busy, or has ended. The numbers are those from before.`];
    waits = sentences.map((sentence, i) => setTimeout(() => { waiting.textContent = sentence; }, 1000 * SLOW[i]));
  }
  /** Say it to who does not see what is lit. */
  const say = (text) => { told.textContent = text; };
  const step = () => clamp(model.get("step"), 0, scene.total);
  /** What is pointed at or selected; nothing where it is of a round on a larger graph. */
  const lit = () => {
    const part = parsePart(hovered || model.get("selected"));
    return part && Math.max(part.node ?? 0, part.u ?? 0, part.v ?? 0) < scene.num_nodes ? part : null;
  };
  const invalidate = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
  const hover = (name) => {
    if (name === hovered) return;
    hovered = name;
    invalidate();
  };
  const select = (name) => {
    hovered = "";
    set({ selected: name });
  };

  function toggle(u, v) {
    const pair = scene.directed || u <= v ? [u, v] : [v, u];
    const before = model.get("toggled");
    const rest = before.filter(([a, b]) => a !== pair[0] || b !== pair[1]);
    set({ toggled: rest.length < before.length ? rest : [...before, pair], selected: `edge:${u}-${v}` });
    toggledPart = { u, v };
  }

  // -- stepping --

  function go(to) {
    const event = lastEvent(scene, to);
    hovered = "";
    set({ step: to, selected: event ? (event.edge ? `edge:${event.edge.u}-${event.edge.v}` : `node:${event.node}`) : "" });
  }
  const rounds = () => model.get("rounds").length;
  const moves = {
    start: () => go(0),
    back: () => {
      if (step() > 0) go(step() - 1);
      // The last step of this round stands for that of the one before, whose number may be another.
      else if (model.get("round_index") > 0) set({ round_index: model.get("round_index") - 1, step: scene.total, selected: "" });
    },
    message: () => {
      if (step() < scene.total) go(step() + 1);
      else if (model.get("round_index") < rounds() - 1) set({ round_index: model.get("round_index") + 1, step: 0, selected: "" });
    },
    node: () => {
      if (step() < scene.total) go(scene.begin.find((boundary) => boundary > step()));
      else moves.message();
    },
    round: () => {
      if (step() < scene.total) go(scene.total);
      else if (model.get("round_index") < rounds() - 1) set({ round_index: model.get("round_index") + 1, selected: "" });
    },
  };

  function playOrStop() {
    const playing = !model.get("playing");
    if (playing && step() === scene.total) go(0);
    set({ playing });
  }

  /** One frame of playing; a whole round takes some 4 to 30 seconds. */
  function keepPlaying() {
    cancelAnimationFrame(timer);
    if (!model.get("playing") || !root.isConnected) return;
    const seconds = clamp(scene.total * 0.35, 4, 30);
    let last = performance.now();
    let saved = last;
    let at = step();
    const tick = (now) => {
      if (!model.get("playing")) return;
      if (Math.floor(at) !== step()) at = step(); // moved by something else
      at = Math.min(scene.total, at + ((now - last) / 1000) * (scene.total / seconds));
      last = now;
      const to = Math.floor(at);
      if (to !== step()) {
        const event = lastEvent(scene, to);
        hovered = "";
        model.set("step", to);
        if (event) model.set("selected", event.edge ? `edge:${event.edge.u}-${event.edge.v}` : `node:${event.node}`);
      }
      if (to === scene.total) model.set("playing", false);
      if (now - saved > 250 || to === scene.total) {
        model.save_changes();
        saved = now;
      }
      if (to < scene.total) timer = requestAnimationFrame(tick);
    };
    timer = requestAnimationFrame(tick);
  }

  // -- the frame: menus, facts, controls --

  const button = (label, title, onclick, attributes = {}) =>
    element("button", { type: "button", title, onclick, ...attributes }, label);
  const menu = (label, trait) => {
    const select = element("select", { onchange: () => set({ [trait]: trait === "round_index" ? select.selectedIndex : select.value }), "data-trait": trait });
    return { select, label: element("label", { class: "mr-menu" }, element("span", {}, label), select) };
  };
  const roundMenu = menu("Round", "round_index");
  const messageMenu = menu("Message f", "message");
  const aggrMenu = menu("AGG", "aggr");
  const sampleInput = element("input", { type: "number", min: 0, onchange: () => set({ sample: clamp(Math.round(Number(sampleInput.value)) || 0, 0, model.get("samples") - 1) }), "data-trait": "sample" });
  const sampleLabel = element("label", { class: "mr-menu" }, element("span", {}, "Sample"), sampleInput);
  const viewButtons = VIEWS.map((view) =>
    button(VIEW_NAMES[view], `Show or hide: ${VIEW_NAMES[view].toLowerCase()}`, () => {
      const views = model.get("views");
      set({ views: VIEWS.filter((one) => views.includes(one) !== (one === view)) });
    }, { "data-view-button": view }),
  );
  const editButton = button("Edit edges", "While pressed, a click on an edge or a block adds it or takes it away, and a drag from node to node adds or takes away their edge", () => {
    editing = !editing;
    invalidate();
  }, { "data-action": "edit" });
  const bar = element("div", { class: "mr-bar" }, roundMenu.label, messageMenu.label, aggrMenu.label, sampleLabel,
    element("div", { class: "mr-group", role: "group", "aria-label": "Views" }, ...viewButtons), editButton);
  if (model.linkable) {
    const said = element("span", { role: "status", class: "mr-said" });
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        said.textContent = "copied";
      } catch {
        said.textContent = "The address of this page is the link.";
      }
    };
    bar.append(button("Copy link", "Copy a link to what is on screen now", copy, { "data-action": "link" }), said,
      element("span", { class: "mr-said", "data-said": "recorded" }, "A recording: choices in grey need Python."));
  }
  const facts = element("dl", { class: "mr-facts" });
  const factValues = Object.fromEntries(FACTS.map(([key, label]) => {
    const value = element("dd", { "data-fact": key });
    facts.append(element("div", {}, element("dt", {}, label), value));
    return [key, value];
  }));
  const error = element("p", { class: "mr-error", role: "alert" });
  const waiting = element("p", { class: "mr-waiting", role: "status" });
  const told = element("span", { class: "mr-hidden", "aria-live": "polite" });
  const notes = element("ul", { class: "mr-notes" });

  const graphBox = element("div", { class: "mr-stage" });
  const graphView = element("section", { class: "mr-view", "data-view": "graph", "aria-label": "Graph" }, element("h2", {}, "Graph"), graphBox, element("p", { class: "mr-caption" }));
  const matrixBox = element("div", { class: "mr-stage" });
  const matrixView = element("section", { class: "mr-view", "data-view": "matrix", "aria-label": "Weight matrix" }, element("h2", {}, "Weight matrix"), matrixBox, element("p", { class: "mr-caption" }));
  const equationBox = element("div", { class: "mr-equation" });
  const equationView = element("section", { class: "mr-view", "data-view": "equation", "aria-label": "Equation" }, element("h2", {}, "Equation"), equationBox);
  const views = element("div", { class: "mr-views" }, graphView, matrixView, equationView);

  const playButton = button("Play", "Play the round", playOrStop, { "data-step": "play", class: "mr-primary" });
  const slider = element("input", { type: "range", min: 0, "aria-label": "Step of the round", oninput: () => go(Number(slider.value)) });
  const stepText = element("output", { class: "mr-step-text" });
  const controls = element("div", { class: "mr-steps", role: "group", "aria-label": "Steps of the round" },
    button("|\u25c0", "To the start of the round", moves.start, { "data-step": "start", "aria-label": "To the start of the round" }),
    button("\u25c0 back", "One step back", moves.back, { "data-step": "back" }),
    playButton,
    button("message \u25b6", "Forward one message (or update)", moves.message, { "data-step": "message" }),
    button("node \u25b6", "Forward to the end of a node: all its messages and its update", moves.node, { "data-step": "node" }),
    button("round \u25b6", "Forward to the end of the round, then to the next round", moves.round, { "data-step": "round" }),
    slider, stepText);
  const outputBox = element("section", { class: "mr-output", "aria-label": "Output" });
  root.append(bar, facts, error, waiting, told, notes, controls, views, outputBox);

  function fillMenu(select, names, chosen, recorded) {
    const key = JSON.stringify([names, recorded ? names.map(recorded) : 0]);
    if (select.dataset.names !== key) {
      select.replaceChildren(...names.map((name, i) => element("option", { value: name, disabled: recorded && !recorded(name, i) }, name)));
      select.dataset.names = key;
    }
    select.value = chosen;
  }

  function drawFrame() {
    const names = model.get("rounds");
    const recorded = (trait) => model.answers && ((name, i) => model.answers({ [trait]: trait === "round_index" ? i : name }));
    fillMenu(roundMenu.select, names, names[model.get("round_index")], recorded("round_index"));
    fillMenu(messageMenu.select, model.get("menus").message, model.get("message"), recorded("message"));
    fillMenu(aggrMenu.select, model.get("menus").aggr, model.get("aggr"), recorded("aggr"));
    roundMenu.label.hidden = names.length < 2;
    sampleLabel.hidden = model.get("samples") < 2;
    sampleInput.max = model.get("samples") - 1;
    sampleInput.value = model.get("sample");
    const shownViews = model.get("views");
    for (const [i, view] of VIEWS.entries()) viewButtons[i].setAttribute("aria-pressed", shownViews.includes(view));
    const large = scene.num_nodes > MOST_NODES_DRAWN;
    viewButtons[0].disabled = large; // there is no drawing to show
    if (large) viewButtons[0].setAttribute("aria-pressed", false);
    graphView.hidden = !shownViews.includes("graph") || large;
    matrixView.hidden = !shownViews.includes("matrix");
    equationView.hidden = !shownViews.includes("equation");
    views.dataset.count = [graphView, matrixView, equationView].filter((view) => !view.hidden).length;
    editButton.setAttribute("aria-pressed", editing);
    editButton.disabled = model.toggles === false;
    root.classList.toggle("is-editing", editing);
    for (const [key] of FACTS) factValues[key].textContent = shownFact(key, scene.facts[key], scene.num_nodes);
    const sentence = model.get("error");
    if (error.textContent !== sentence) error.textContent = sentence;
    const remarks = JSON.stringify(scene.notes);
    if (notes.dataset.remarks !== remarks) {
      notes.replaceChildren(...scene.notes.map((note) => element("li", {}, note)));
      notes.dataset.remarks = remarks;
    }
    playButton.textContent = model.get("playing") ? "Pause" : "Play";
    stepText.setAttribute("aria-live", model.get("playing") ? "off" : "polite"); // too many to be read
    slider.max = scene.total;
    slider.value = step();
    const event = lastEvent(scene, step());
    stepText.textContent = step() === 0 ? "before the round" : `step ${step()} of ${scene.total}: ` +
      (event.edge ? `message ${event.edge.u} \u2192 ${event.edge.v}` : `node ${event.node} updates`);
    slider.setAttribute("aria-valuetext", stepText.textContent);
  }

  // -- the graph --

  const arcs = element("canvas", { "aria-hidden": "true" });
  const ticks = element("canvas", { "aria-hidden": "true" });
  const overlay = svg("g", { "aria-hidden": "true" });
  const nodeLayer = svg("g");
  const marker = svg("marker", { id: `mr-arrow-${Math.random().toString(36).slice(2)}`, viewBox: "0 0 10 10", refX: 8, refY: 5, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse" }, svg("path", { d: "M0 0L10 5L0 10z", class: "mr-arrow" }));
  const graphSvg = svg("svg", { role: "group", "aria-label": "Nodes of the graph. Left and right go from node to node, up and down through the messages that a node receives, T adds or takes away the edge." }, svg("defs", {}, marker), overlay, nodeLayer);
  graphBox.append(arcs, ticks, graphSvg);
  let shape = null; // where nodes and arcs lie

  function layout(size) {
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
    const curves = scene.edges.map((edge) => {
      const [a, b] = [at[edge.u], at[edge.v]];
      if (edge.u === edge.v) {
        const away = rim + loop / 2;
        return { loop: true, x: a.x + Math.cos(a.angle) * away, y: a.y + Math.sin(a.angle) * away, r: loop / 2 };
      }
      const [mx, my] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
      const length = Math.hypot(b.x - a.x, b.y - a.y);
      // Bent to the middle, the more the longer, and each direction to its own left.
      const bend = 0.15 + (0.3 * length) / size;
      const cx = mx + (middle - mx) * bend - (b.y - a.y) * 0.06;
      const cy = my + (middle - my) * bend + (b.x - a.x) * 0.06;
      const trim = Math.min(0.4, rim / length);
      return { a, b, cx, cy, trim, free: length * (1 - 2 * trim) };
    });
    return { size, middle, radius, tick, gap, rings, rim, at, curves };
  }

  /** The point of a curve at t. */
  function along(curve, t) {
    if (curve.loop) {
      const angle = 2 * Math.PI * t;
      return [curve.x + curve.r * Math.cos(angle), curve.y + curve.r * Math.sin(angle)];
    }
    const s = 1 - t;
    return [s * s * curve.a.x + 2 * s * t * curve.cx + t * t * curve.b.x, s * s * curve.a.y + 2 * s * t * curve.cy + t * t * curve.b.y];
  }

  /** A curve from rim to rim, as SVG path data. */
  function pathOf(curve) {
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

  const strokeWidth = (edge) => (scene.num_nodes > 32 ? 0.4 : 0.8) + (scene.num_nodes > 32 ? 1.6 : 4) * (edge.size / scene.largest.size);

  function stroke(context, curve) {
    context.beginPath();
    if (curve.loop) context.arc(curve.x, curve.y, curve.r, 0, 2 * Math.PI);
    else {
      context.moveTo(curve.a.x, curve.a.y);
      context.quadraticCurveTo(curve.cx, curve.cy, curve.b.x, curve.b.y);
    }
    context.stroke();
  }

  /** Edges in grey, and the messages sent so far in colour; going forward only the new ones. */
  function drawArcs(fresh) {
    const sent = (edge) => edge.place < progress(scene, edge.v, step()).arrived;
    const from = fresh || step() < drawn.step ? null : drawn.step;
    const context = from === null ? fit(arcs, shape.size, shape.size) : arcs.getContext("2d");
    if (from === null) {
      context.strokeStyle = theme === "dark" ? "rgba(150,160,175,.45)" : "rgba(90,100,115,.35)";
      context.lineWidth = scene.num_nodes > 32 ? 0.35 : 0.8;
      for (const curve of shape.curves) stroke(context, curve);
    }
    for (const [i, edge] of scene.edges.entries()) {
      if (!sent(edge) || (from !== null && edge.place < progress(scene, edge.v, from).arrived)) continue;
      context.strokeStyle = css(colour(edge.mean / scene.largest.mean, theme));
      context.lineWidth = strokeWidth(edge);
      stroke(context, shape.curves[i]);
    }
  }

  const mostTicks = () => (scene.num_nodes <= 24 ? 32 : 12);

  /** Each node's share: a tick a channel, x inside and, once the node has updated, x' outside. */
  function drawTicks() {
    const context = fit(ticks, shape.size, shape.size);
    const { radius, tick, gap } = shape;
    const most = mostTicks();
    const panel = getComputedStyle(graphView).backgroundColor;
    const empty = theme === "dark" ? "#333a45" : "#dfe3e8";
    scene.nodes.forEach((node, v) => {
      const { x, y } = shape.at[v];
      context.fillStyle = panel; // arcs end at the rim
      context.beginPath();
      context.arc(x, y, shape.rim, 0, 2 * Math.PI);
      context.fill();
      const ring = (values, pixels, count, inner, largest) => {
        const some = Math.min(count, most);
        const turn = (2 * Math.PI) / some;
        const between = Math.min(0.3 * turn, 1.2 / inner);
        context.lineWidth = tick;
        for (let i = 0; i < some; i++) {
          const channel = Math.floor((i * count) / some);
          const value = values && mean(values.subarray(channel * pixels, (channel + 1) * pixels));
          const from = -Math.PI / 2 + turn * i + between / 2;
          context.strokeStyle = values ? css(colour(value / largest, theme)) : empty;
          context.beginPath();
          context.arc(x, y, inner + tick / 2, from, from + turn - between);
          context.stroke();
        }
      };
      const { done } = progress(scene, v, step());
      if (shape.rings === 2 || !done) ring(node.x, scene.pixelsIn, scene.in_sizes[v], radius + gap, scene.largest.x);
      const outer = radius + gap + (shape.rings - 1) * (tick + gap);
      if (shape.rings === 2 || done) ring(done ? node.output : null, scene.pixelsOut, scene.out_sizes[v], outer, scene.largest.output);
    });
  }

  function describeNode(v) {
    const node = scene.nodes[v];
    return `node ${v}, ${scene.in_sizes[v]} channels in, ${scene.out_sizes[v]} out, receives ${messages(node.sources.length)}`;
  }

  function describeEdge(u, v) {
    const edge = scene.edgeAt.get(`${u}-${v}`);
    if (!edge) return `no edge from ${u} to ${v}`;
    const sent = edge.place < progress(scene, v, step()).arrived;
    return `message from ${u} to ${v}, ${sent ? `mean ${shown(edge.mean, scene.largest.mean)}` : "not sent yet"}`;
  }

  function buildNodes() {
    graphSvg.setAttribute("viewBox", `0 0 ${shape.size} ${shape.size}`);
    graphSvg.setAttribute("width", shape.size);
    graphSvg.setAttribute("height", shape.size);
    const focused = nodeLayer.contains(document.activeElement) ? document.activeElement.dataset.node : null;
    nodeLayer.replaceChildren(...scene.nodes.map((_, v) => {
      const { x, y } = shape.at[v];
      const group = svg("g", { class: "mr-node", role: "button", tabindex: v === 0 ? 0 : -1, "data-node": v, "aria-label": describeNode(v), transform: `translate(${x} ${y})` },
        svg("circle", { r: shape.rim, class: "mr-hit" }), svg("circle", { r: shape.radius, class: "mr-disc" }));
      if (shape.radius >= 7) group.append(svg("text", { dy: "0.35em" }, String(v)));
      return group;
    }));
    if (focused !== null) nodeLayer.children[focused]?.focus();
  }

  let dragging = null; // the node that a drag began on
  let dragged = false; // whether a drag ended just now: the click that follows is its own
  const nodeUnder = (event) => event.target.closest?.(".mr-node")?.dataset.node;

  function edgeNear(event) {
    const box = graphSvg.getBoundingClientRect();
    const scale = shape.size / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = null;
    let nearest = 7 ** 2;
    shape.curves.forEach((curve, i) => {
      for (let k = 1; k < 16; k++) {
        const [px, py] = along(curve, k / 16);
        const distance = (px - x) ** 2 + (py - y) ** 2;
        if (distance < nearest) [best, nearest] = [scene.edges[i], distance];
      }
    });
    return best;
  }

  graphSvg.addEventListener("pointermove", (event) => {
    const v = nodeUnder(event);
    if (v !== undefined) hover(dragging === null || dragging === v ? `node:${v}` : `edge:${dragging}-${v}`);
    else if (dragging === null) {
      const edge = edgeNear(event);
      hover(edge ? `edge:${edge.u}-${edge.v}` : "");
    }
  });
  graphSvg.addEventListener("pointerleave", () => {
    dragging = null;
    hover("");
  });
  graphSvg.addEventListener("pointerdown", (event) => {
    // A finger would hold the node that it began on, so that no other one is under it.
    if (event.target.hasPointerCapture?.(event.pointerId)) event.target.releasePointerCapture(event.pointerId);
    dragging = editing ? (nodeUnder(event) ?? null) : null;
    dragged = false;
  });
  graphSvg.addEventListener("pointerup", (event) => {
    const v = nodeUnder(event);
    dragged = dragging !== null && v !== dragging;
    if (dragged && v !== undefined) toggle(Number(dragging), Number(v));
    dragging = null;
  });
  graphSvg.addEventListener("click", (event) => {
    if (dragged) return;
    const v = nodeUnder(event);
    const edge = v === undefined ? edgeNear(event) : null;
    if (edge && editing) toggle(edge.u, edge.v);
    else if (edge) select(`edge:${edge.u}-${edge.v}`);
    else if (v === undefined) select("");
    else if (!editing) select(model.get("selected") === `node:${v}` ? "" : `node:${v}`);
  });
  // On the box: a listener for focus would make the SVG itself a stop of the Tab key.
  graphBox.addEventListener("focusin", (event) => {
    const v = nodeUnder(event);
    if (v === undefined) return;
    for (const node of nodeLayer.children) node.setAttribute("tabindex", node === event.target ? 0 : -1);
    if (event.target.matches(":focus-visible") && parsePart(model.get("selected"))?.v !== Number(v)) select(`node:${v}`);
  });
  graphSvg.addEventListener("keydown", (event) => {
    const v = Number(nodeUnder(event));
    if (Number.isNaN(v)) return;
    const n = scene.num_nodes;
    const { sources } = scene.nodes[v];
    const part = lit();
    const place = part && part.v === v ? sources.indexOf(part.u) : -1;
    const to = { ArrowRight: v + 1, ArrowLeft: v - 1 + n, Home: 0, End: n - 1 }[event.key];
    const by = { ArrowDown: 1, ArrowUp: place < 0 ? 0 : -1 }[event.key];
    if (to !== undefined) {
      nodeLayer.children[to % n].focus();
      select(`node:${to % n}`);
    } else if (by !== undefined) {
      const u = sources[(place + by + sources.length) % sources.length];
      select(`edge:${u}-${v}`);
      say(describeEdge(u, v));
    } else if (event.key === "Enter" || event.key === " ") select(`node:${v}`);
    else if (event.key === "Escape") select("");
    else if (event.key.toLowerCase() === "t" && part && part.u !== undefined) toggle(part.u, part.v);
    else return;
    event.preventDefault();
  });

  function drawOverlay() {
    const part = lit();
    const litEdges = !part ? [] : part.node === undefined ? [[part.u, part.v]] : scene.nodes[part.node].sources.map((u) => [u, part.node]);
    const made = [];
    for (const [u, v] of litEdges) {
      const edge = scene.edgeAt.get(`${u}-${v}`);
      if (!edge) {
        const [a, b] = [shape.at[u], shape.at[v]];
        made.push(svg("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: "mr-absent-edge" }));
        continue;
      }
      const curve = shape.curves[edge.index];
      const sent = edge.place < progress(scene, v, step()).arrived;
      const width = strokeWidth(edge) + 1;
      const d = pathOf(curve);
      made.push(svg("path", { d, class: "mr-halo", "stroke-width": width + (litEdges.length > 16 ? 0.8 : 3) }));
      const line = svg("path", { d, class: "mr-lit-edge", "stroke-width": width });
      if (sent) line.style.stroke = css(colour(edge.mean / scene.largest.mean, theme));
      else line.classList.add("is-waiting");
      if (curve.free > 14 && litEdges.length <= 16) line.setAttribute("marker-end", `url(#${marker.id})`);
      made.push(line);
      // A message over maps is a small map, halfway along its edge.
      if (sent && scene.map_out.length && edge.message && litEdges.length <= 16) {
        const [rows, columns] = scene.map_out;
        const [x, y] = along(curve, curve.loop ? 0.5 : 0.5);
        const side = litEdges.length > 8 ? 20 : 28;
        const map = picture(edge.message, rows, columns, scene.largest.message, theme);
        made.push(svg("image", { href: map.toDataURL(), x: x - side / 2, y: y - side / 2, width: side, height: side, class: "mr-map" }),
          svg("rect", { x: x - side / 2, y: y - side / 2, width: side, height: side, class: "mr-map-frame" }));
      }
    }
    overlay.replaceChildren(...made);
    const ends = new Set(!part ? [] : part.node === undefined ? [part.u, part.v] : [part.node]);
    const near = new Set(part && part.node !== undefined ? scene.nodes[part.node].sources : []);
    [...nodeLayer.children].forEach((group, v) => {
      group.classList.toggle("is-lit", ends.has(v));
      group.classList.toggle("is-near", near.has(v));
      const done = progress(scene, v, step()).done;
      const value = done ? mean(scene.nodes[v].output) / scene.largest.output : mean(scene.nodes[v].x) / scene.largest.x;
      const fill = colour(value, theme);
      group.children[1].style.fill = css(fill);
      if (group.children[2]) group.children[2].style.fill = readableOn(fill);
    });
  }

  // -- the matrix --

  const matrixCanvas = element("canvas", { "aria-hidden": "true" });
  const bands = svg("g");
  const matrixSvg = svg("svg", { role: "application", tabindex: 0, "aria-label": "Block weight matrix. Arrow keys go from block to block, Enter or T adds or takes away the edge." }, bands);
  matrixBox.append(matrixCanvas, matrixSvg);
  let grid = null; // where blocks lie

  function gridOf(size) {
    const labels = scene.num_nodes <= 32 ? 20 : 6;
    const inner = size - labels - 2;
    const scaleX = inner / scene.inOffsets.at(-1);
    const scaleY = inner / scene.outOffsets.at(-1);
    const height = labels + inner + 2;
    return { size, height, labels, x: scene.inOffsets.map((offset) => labels + offset * scaleX), y: scene.outOffsets.map((offset) => labels + offset * scaleY) };
  }

  function drawMatrix() {
    const context = fit(matrixCanvas, grid.size, grid.height);
    matrixSvg.setAttribute("viewBox", `0 0 ${grid.size} ${grid.height}`);
    matrixSvg.setAttribute("width", grid.size);
    matrixSvg.setAttribute("height", grid.height);
    const n = scene.num_nodes;
    const [left, top] = [grid.x[0], grid.y[0]];
    const [width, height] = [grid.x[n] - left, grid.y[n] - top];
    // Where there is no edge there is no weight: hatched, not zero.
    const hatch = element("canvas", { width: 6, height: 6 });
    const lines = hatch.getContext("2d");
    lines.strokeStyle = theme === "dark" ? "#4a515c" : "#c9ced6";
    lines.lineWidth = 1;
    lines.beginPath();
    lines.moveTo(-1, 7);
    lines.lineTo(7, -1);
    lines.stroke();
    context.fillStyle = theme === "dark" ? "#15181d" : "#ffffff";
    context.fillRect(left, top, width, height);
    context.fillStyle = context.createPattern(hatch, "repeat");
    context.fillRect(left, top, width, height);
    context.imageSmoothingEnabled = false;
    const [kh, kw] = scene.kernel.length ? scene.kernel : [1, 1];
    const box = (u, v) => [grid.x[u], grid.y[v], grid.x[u + 1] - grid.x[u], grid.y[v + 1] - grid.y[v]];
    if (!scene.whole_blocks) {
      for (const { u, v, weights } of scene.edges) {
        context.fillStyle = css(colour(weights[0] / scene.largest.weight, theme));
        context.fillRect(...box(u, v));
      }
    } else {
      scene.nodes.forEach((_, v) => {
        const edges = scene.edges.slice(scene.begin[v] - v, scene.begin[v + 1] - v - 1);
        // One image of all its blocks beside each other: an image for each block takes longer.
        const wide = edges.reduce((sum, { u }) => sum + scene.in_sizes[u] * kw, 0);
        const high = scene.out_sizes[v] * kh;
        if (!wide || !high) return;
        const laid = new Float64Array(high * wide);
        const places = [];
        let start = 0;
        for (const { u, weights } of edges) {
          const columns = scene.in_sizes[u];
          for (let i = 0; i < weights.length; i++) {
            const [x, y, column, row] = [i % kw, Math.floor(i / kw) % kh, Math.floor(i / (kw * kh)) % columns, Math.floor(i / (kw * kh * columns))];
            laid[(row * kh + y) * wide + start + column * kw + x] = weights[i];
          }
          places.push([start, 0, columns * kw, high]);
          start += columns * kw;
        }
        const image = picture(laid, high, wide, scene.largest.weight, theme);
        edges.forEach(({ u }, i) => places[i][2] && context.drawImage(image, ...places[i], ...box(u, v)));
      });
    }
    if (n <= 64) {
      context.strokeStyle = theme === "dark" ? "rgba(200,210,220,.35)" : "rgba(60,70,80,.35)";
      context.lineWidth = n <= 24 ? 1 : 0.4;
      context.beginPath();
      for (let i = 0; i <= n; i++) {
        context.moveTo(grid.x[i], top);
        context.lineTo(grid.x[i], top + height);
        context.moveTo(left, grid.y[i]);
        context.lineTo(left + width, grid.y[i]);
      }
      context.stroke();
    }
    if (n <= 32) {
      context.fillStyle = theme === "dark" ? "#c3c9d2" : "#4a5360";
      context.font = `${n <= 16 ? 11 : 8}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      for (let v = 0; v < n; v++) {
        context.fillText(v, (grid.x[v] + grid.x[v + 1]) / 2, top / 2 + 1);
        context.fillText(v, left / 2, (grid.y[v] + grid.y[v + 1]) / 2);
      }
    }
  }

  function drawBands() {
    const part = lit();
    const n = scene.num_nodes;
    const made = [];
    const rect = (u0, u1, v0, v1, kind) => made.push(svg("rect", { x: grid.x[u0], y: grid.y[v0], width: grid.x[u1] - grid.x[u0], height: grid.y[v1] - grid.y[v0], class: `mr-band ${kind}` }));
    if (part && part.node !== undefined) {
      rect(part.node, part.node + 1, 0, n, "is-column");
      rect(0, n, part.node, part.node + 1, "is-row");
    } else if (part) {
      rect(0, n, part.v, part.v + 1, "is-faint");
      rect(part.u, part.u + 1, 0, n, "is-faint");
      rect(part.u, part.u + 1, part.v, part.v + 1, "is-block");
    }
    bands.replaceChildren(...made);
  }

  function blockUnder(event) {
    const box = matrixSvg.getBoundingClientRect();
    const x = ((event.clientX - box.left) * grid.size) / box.width;
    const y = ((event.clientY - box.top) * grid.height) / box.height;
    const find = (edges, at) => edges.findIndex((edge, i) => at >= edge && at < edges[i + 1]);
    const [u, v] = [find(grid.x, x), find(grid.y, y)];
    if (u >= 0 && v >= 0) return { u, v, name: `edge:${u}-${v}` };
    const node = Math.max(u, v);
    return node >= 0 ? { name: `node:${node}` } : null;
  }
  matrixSvg.addEventListener("pointermove", (event) => hover(blockUnder(event)?.name ?? ""));
  matrixSvg.addEventListener("pointerleave", () => hover(""));
  matrixSvg.addEventListener("click", (event) => {
    const block = blockUnder(event);
    if (block && editing && block.u !== undefined) toggle(block.u, block.v);
    else select(block && block.name !== model.get("selected") ? block.name : "");
  });
  const walk = (u, v) => {
    select(`edge:${u}-${v}`);
    say(describeEdge(u, v));
  };
  matrixSvg.addEventListener("keydown", (event) => {
    const n = scene.num_nodes;
    const part = lit();
    const [u, v] = part ? (part.node === undefined ? [part.u, part.v] : [part.node, part.node]) : [0, 0];
    const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (by) {
      walk(...(part && part.node === undefined ? [(u + by[0] + n) % n, (v + by[1] + n) % n] : [u, v]));
    } else if (event.key === "Home") walk(0, 0);
    else if (event.key === "End") walk(n - 1, n - 1);
    else if (event.key === "Escape") select("");
    else if (event.key === "Enter" || event.key === " " || event.key.toLowerCase() === "t") toggle(u, v);
    else return;
    event.preventDefault();
  });

  // -- the equation --

  /** One number a cell, the number on its colour; "…" where there are more. */
  function cells(values, largest, rows, columns, most = Math.floor((equationBox.clientWidth - 124) / CELL)) {
    const box = element("div", { class: "mr-cells" });
    const few = Math.max(2, most);
    const [down, across] = [Math.min(rows, few), Math.min(columns, few)];
    box.style.gridTemplateColumns = `repeat(${across}, ${CELL - 1}px)${columns > across ? " max-content" : ""}`;
    for (let i = 0; i < down; i++) {
      for (let j = 0; j < across; j++) {
        const value = values[i * columns + j];
        const fill = colour(value / largest, theme);
        const text = shown(value, largest);
        const cell = element("span", { class: `mr-cell${text.length > 6 ? " is-long" : ""}` }, text);
        cell.style.background = css(fill);
        cell.style.color = readableOn(fill);
        box.append(cell);
      }
      if (columns > across) box.append(element("span", { class: "mr-more" }, "\u2026"));
    }
    if (rows > down) box.append(element("span", { class: "mr-more" }, "\u22ee"));
    return box;
  }

  /** Maps side by side. */
  function maps(values, count, size, largest, most = 6, side = 44) {
    const box = element("div", { class: "mr-maps" });
    const [rows, columns] = size;
    for (let i = 0; i < Math.min(count, most); i++) {
      const map = picture(values.subarray(i * rows * columns, (i + 1) * rows * columns), rows, columns, largest, theme);
      map.className = "mr-thumbnail";
      map.style.width = map.style.height = `${side}px`;
      box.append(map);
    }
    if (count > most) box.append(element("span", { class: "mr-more" }, `\u2026 ${count} in all`));
    return box;
  }

  const share = (values, size, map, largest) => (map.length ? maps(values, size, map, largest) : cells(values, largest, 1, size));

  function line(label, content, attributes = {}) {
    return element("div", { class: "mr-line", ...attributes }, element("span", { class: "mr-label" }, label), content);
  }

  const AGG_SIGN = { sum: "\u2211", add: "\u2211", mul: "\u220f" };

  /** x_v' = sigma(AGG f_vu(x_u) + b_v), with the numbers of a node in it. */
  function general(names) {
    const v = String(names.v ?? "v");
    const left = math("msubsup", math("mi", "x"), math("mi", v), math("mo", "\u2032"));
    const sign = AGG_SIGN[scene.aggr];
    const over = math("mrow", math("mi", "u"), math("mo", "\u2208"), math("mi", "N"), math("mo", "("), math("mi", v), math("mo", ")"));
    const message = formula(scene.formula, { v: names.v, u: names.v === undefined ? undefined : "u" });
    // What AGG takes ends before the bias: as it is written, unless a sum says so.
    const taken = sign && !scene.formula.includes("+") ? [message] : [math("mo", "("), message, math("mo", ")")];
    const bias = scene.nodes[0].bias ? [math("mo", "+"), math("msub", math("mi", "b"), math("mi", v))] : [];
    const body = math("mrow", math("munder", math(sign ? "mo" : "mi", sign ?? scene.aggr), over), math("mspace"), ...taken, ...bias);
    const whole = math("math", left, math("mo", "="), math("mi", "\u03c3"), math("mo", "("), body, math("mo", ")"));
    whole.setAttribute("display", "block");
    return whole;
  }

  function nodeEquation(v) {
    const node = scene.nodes[v];
    const { arrived, done } = progress(scene, v, step());
    const count = node.sources.length;
    const first = clamp(arrived - MOST_ROWS + 2, 0, Math.max(0, count - MOST_ROWS));
    const rows = [element("p", { class: "mr-says" }, `Node ${v} holds ${scene.in_sizes[v]} of ${scene.facts.in_channels} channels and receives ${messages(count)}; ${arrived} ${arrived === 1 ? "has" : "have"} arrived. \u03c3 is ${scene.update}.`), general({ v })];
    if (first > 0) rows.push(element("p", { class: "mr-more" }, `\u22ee ${first} before`));
    for (let place = first; place < Math.min(count, first + MOST_ROWS); place++) {
      const u = node.sources[place];
      const edge = scene.edgeAt.get(`${u}-${v}`);
      const content = edge.message ? share(edge.message, scene.out_sizes[v], scene.map_out, scene.largest.message) : cells([edge.mean], scene.largest.mean, 1, 1);
      rows.push(line(`from ${u}`, content, { class: `mr-line${place < arrived ? "" : " is-waiting"}`, "data-edge": `${u}-${v}` }));
    }
    if (count > first + MOST_ROWS) rows.push(element("p", { class: "mr-more" }, `\u22ee ${count - first - MOST_ROWS} more`));
    const size = scene.out_sizes[v];
    const last = arrived > 0 ? scene.edgeAt.get(`${node.sources[arrived - 1]}-${v}`) : null;
    const grown = arrived === count ? node.aggregate : last?.partial;
    if (grown) rows.push(line(`${scene.aggr}${arrived < count ? " so far" : ""}`, share(grown, size, scene.map_out, scene.largest.aggregate), { class: "mr-line is-result" }));
    if (node.bias) rows.push(line("b", cells(node.bias, scene.largest.aggregate, 1, size)));
    if (node.residual) rows.push(line("residual", share(node.residual, size, scene.map_out, scene.largest.output)));
    if (done) rows.push(line(`x\u2032 = \u03c3(\u2026)`, share(node.output, size, scene.map_out, scene.largest.output), { class: "mr-line is-result" }));
    if (done && node.dense) rows.push(line("dense", share(node.dense, size, scene.map_out, scene.largest.output)));
    return rows;
  }

  function edgeEquation(u, v) {
    const edge = scene.edgeAt.get(`${u}-${v}`);
    const possible = !model.answers || model.answers({ toggled: toggledWith(u, v) });
    const change = button(edge ? "Take this edge away" : "Add this edge", "The layer is rebuilt; all other weights stay", () => toggle(u, v), { "data-action": "toggle", disabled: !possible });
    if (!edge) {
      return [element("p", { class: "mr-says" }, `There is no edge from node ${u} to node ${v}: no message flows, and the block of the matrix has no weights.`), change];
    }
    const [rows, columns] = [scene.out_sizes[v], scene.in_sizes[u]];
    const left = math("math", math("msub", math("mi", "f"), math("mrow", math("mn", v), math("mo", ","), math("mn", u))), math("mo", "("), math("msub", math("mi", "x"), math("mn", u)), math("mo", ")"), math("mo", "="), formula(scene.formula, { u, v }));
    left.setAttribute("display", "block");
    const made = [element("p", { class: "mr-says" }, `The message from node ${u} to node ${v}: ${columns} channels in, ${rows} out.`), left];
    const x = scene.nodes[u].x;
    if (scene.whole_blocks && !scene.kernel.length) {
      const most = clamp(Math.floor((equationBox.clientWidth - 160) / CELL), 2, 8);
      const product = element("div", { class: "mr-product" }, stacked(scene.matrix, cells(edge.weights, scene.largest.weight, rows, columns, most)));
      if (!scene.map_in.length) product.append(stacked(`x from ${u}`, cells(x, scene.largest.x, columns, 1, most)));
      if (edge.message && !scene.map_out.length) product.append(element("span", { class: "mr-equals" }, "\u2192"), stacked("message", cells(edge.message, scene.largest.message, rows, 1, most)));
      made.push(product);
    } else if (!scene.whole_blocks) made.push(line(scene.matrix, cells(edge.weights, scene.largest.weight, 1, 1)));
    else made.push(line(`kernels ${scene.matrix}`, maps(edge.weights, rows * columns, scene.kernel, scene.largest.weight, 8, 30)));
    if (scene.map_in.length || !scene.whole_blocks) {
      made.push(line(`x from ${u}`, share(x, columns, scene.map_in, scene.largest.x)));
      if (edge.message) made.push(line("message", share(edge.message, rows, scene.map_out, scene.largest.message)));
    }
    if (!edge.message && scene.matrix !== "mean of the message") made.push(line("mean of the message", cells([edge.mean], scene.largest.mean, 1, 1)));
    const arrived = edge.place < progress(scene, v, step()).arrived;
    if (edge.partial && arrived) made.push(line(`${scene.aggr} at ${v} with it`, share(edge.partial, rows, scene.map_out, scene.largest.aggregate), { class: "mr-line is-result" }));
    if (!arrived) made.push(element("p", { class: "mr-says" }, "It has not been sent yet."));
    return [...made, change];
  }

  function help() {
    const keys = [
      ["click", "keeps what is pointed at; again, or Escape, lets go"],
      ["Edit edges", "then click an arc or a block, or drag from node to node"],
      ["\u2190 \u2192", "with a node in focus: the next node; in the matrix, the next block"],
      ["\u2191 \u2193", "with a node in focus: the messages that it receives"],
      ["T", "adds or takes away the edge in focus"],
    ];
    return [element("dl", { class: "mr-help" }, ...keys.flatMap(([key, what]) => [element("dt", {}, key), element("dd", {}, what)]))];
  }

  function toggledWith(u, v) {
    const pair = scene.directed || u <= v ? [u, v] : [v, u];
    const before = model.get("toggled");
    const rest = before.filter(([a, b]) => a !== pair[0] || b !== pair[1]);
    return rest.length < before.length ? rest : [...before, pair];
  }

  function stacked(label, content) {
    return element("div", { class: "mr-stacked" }, element("span", { class: "mr-label" }, label), content);
  }

  function drawEquation() {
    const part = lit();
    const focusOn = equationBox.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    const rows = !part
      ? [general({}), element("p", { class: "mr-says" }, `A layer of ${scene.facts.in_channels} \u2192 ${scene.facts.out_channels} channels is one round on ${scene.num_nodes} nodes. \u03c3 is ${scene.update}. Point at a node, an edge or a block to see its numbers.`), ...help()]
      : part.node !== undefined ? nodeEquation(part.node) : edgeEquation(part.u, part.v);
    equationBox.replaceChildren(...rows);
    for (const whole of equationBox.querySelectorAll("math")) {
      // A formula is not broken into lines: one that is too long is written smaller.
      const boxes = [...whole.children].map((child) => child.getBoundingClientRect());
      const wide = Math.max(...boxes.map((box) => box.right)) - Math.min(...boxes.map((box) => box.left));
      const fits = (0.98 * equationBox.clientWidth) / wide;
      if (fits < 1) whole.style.fontSize = `${18 * fits}px`;
    }
    if (focusOn) equationBox.querySelector(`[data-action="${focusOn}"]`)?.focus();
  }

  // -- the output --

  function drawOutput() {
    const strip = (key) => {
      const width = Math.max(160, outputBox.clientWidth - 24 - (outputBox.clientWidth > 480 ? 100 : 70));
      const canvas = element("canvas", { role: "img", "aria-label": `${key === "output" ? "output of the round" : "output of the dense layer"}, one stripe a channel` });
      const high = scene.map_out.length ? 40 : 18;
      const context = fit(canvas, width, high);
      const channels = scene.outOffsets.at(-1);
      context.imageSmoothingEnabled = false;
      scene.nodes.forEach((node, v) => {
        if (!progress(scene, v, step()).done) return;
        for (let c = 0; c < scene.out_sizes[v]; c++) {
          const x = ((scene.outOffsets[v] + c) * width) / channels;
          const values = node[key].subarray(c * scene.pixelsOut, (c + 1) * scene.pixelsOut);
          const wide = Math.max(1, width / channels - (channels < 100 ? 1 : 0));
          if (scene.map_out.length) context.drawImage(picture(values, ...scene.map_out, scene.largest.output, theme), x, 0, wide, high);
          else {
            context.fillStyle = css(colour(values[0] / scene.largest.output, theme));
            context.fillRect(x, 0, wide, high);
          }
        }
      });
      return canvas;
    };
    const rows = [line("output", strip("output"))];
    if (scene.nodes[0].dense) {
      rows.push(line("dense layer", strip("dense")));
      rows.push(element("p", { class: "mr-says" }, "Largest difference between the round and the dense layer with the same weights: ", element("strong", { "data-fact": "difference" }, scene.difference === 0 ? "0" : scene.difference?.toExponential(2) ?? "none is finite"), "."));
    } else rows.push(element("p", { class: "mr-says" }, `No dense layer to compare with: ${scene.no_dense}.`));
    outputBox.replaceChildren(...rows);
  }

  // -- drawing what changed --

  function draw() {
    if (!root.isConnected || !model.get("scene")?.nodes) return;
    const before = drawn;
    const now = { raw: model.get("scene"), theme: themeOf(model, el) };
    if (now.raw !== before.raw) {
      scene = decode(now.raw);
      if (toggledPart) {
        const { u, v } = toggledPart;
        // The number of edges leaves self-loops out.
        const what = u === v ? [`self-loop of node ${u}`, ""] : [`edge from ${u} to ${v}`, `, ${scene.facts.edges} edges`];
        say(what.join(scene.edgeAt.has(`${u}-${v}`) ? " added" : " taken away"));
      }
      toggledPart = null;
    }
    theme = now.theme;
    root.dataset.theme = theme;
    drawFrame();
    now.step = step();
    now.lit = lit()?.name ?? "";
    now.width = views.clientWidth;
    now.views = model.get("views").join() + views.dataset.count;
    const all = now.raw !== before.raw || now.theme !== before.theme || now.width !== before.width || now.views !== before.views;
    const stepped = all || now.step !== before.step;
    const done = (at) => scene.begin.findLastIndex((boundary) => boundary <= at);
    const updated = all || done(now.step) !== done(before.step);
    if (!graphView.hidden) {
      if (all) {
        shape = layout(clamp(graphBox.clientWidth, 220, 620));
        buildNodes();
      }
      if (stepped) {
        drawArcs(all || before.step === undefined);
        if (updated) drawTicks();
      }
      if (stepped || now.lit !== before.lit) drawOverlay();
      const some = Math.max(...scene.in_sizes, ...scene.out_sizes) > mostTicks() ? `up to ${mostTicks()} of a node's ` : "";
      if (all) graphView.querySelector(".mr-caption").textContent = `Ticks are ${some}channels: ${shape.rings === 2 ? "x inside, x\u2032 outside" : "x, and x\u2032 once the node has updated"}. A message's colour is its mean, ${sides(scene.largest.mean)}; its width is its root mean square.`;
    }
    if (!matrixView.hidden) {
      if (all) {
        grid = gridOf(clamp(matrixBox.clientWidth, 220, 620));
        drawMatrix();
        matrixView.querySelector(".mr-caption").textContent = `Row: receiver. Column: sender. Colour: ${scene.matrix}, ${sides(scene.largest.weight)}. Hatched: no edge, no weights.`;
      }
      if (all || now.lit !== before.lit) drawBands();
    }
    if (!equationView.hidden && (stepped || now.lit !== before.lit)) drawEquation();
    if (updated) drawOutput();
    for (const view of [graphView, matrixView, equationView]) view.dataset.lit = now.lit;
    drawn = now;
  }

  const traits = ["scene", "rounds", "menus", "samples", "round_index", "sample", "aggr", "message", "toggled", "step", "selected", "views", "theme", "error"];
  for (const trait of traits) model.on(`change:${trait}`, invalidate);
  const played = () => {
    invalidate();
    keepPlaying();
  };
  model.on("change:playing", played);
  model.on("change:answered", answered);
  const resized = new ResizeObserver(invalidate);
  resized.observe(root);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", invalidate);
  const themed = new MutationObserver(invalidate);
  themed.observe(document.body, { attributes: true });
  themed.observe(document.documentElement, { attributes: true });
  invalidate();
  keepPlaying();
  return () => {
    cancelAnimationFrame(frame);
    cancelAnimationFrame(timer);
    resized.disconnect();
    themed.disconnect();
    dark.removeEventListener("change", invalidate);
    for (const trait of traits) model.off(`change:${trait}`, invalidate);
    model.off("change:playing", played);
    model.off("change:answered", answered);
    answered();
  };
}

// -- an exported page ----------------------------------------------------------------------------

const LINKED = ["round", "sample", "aggr", "message", "toggled", "step", "selected", "views", "theme"];
const addressed = () => new URLSearchParams(location.hash.slice(1));

/** As export.py's `answer_key`. */
function answerKey(state) {
  const pairs = state.toggled.map(([u, v]) => [u, v]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return [...KEY.map((name) => state[name]), pairs.map((pair) => pair.join("-")).join(" ")].join("|");
}

/** A model that answers from recorded scenes, and keeps what is on screen in the address. */
class RecordedModel {
  constructor({ state, scene, patches }, prefix) {
    this.recorded = { state, scene, patches };
    this.prefix = prefix; // of its names in the address
    this.state = { ...state, scene, playing: false, error: "" };
    this.listeners = new Map();
    this.linkable = true;
    this.asked = new Set();
    const pairs = answerKey(state).split("|").at(-1);
    this.toggles = Object.keys(patches).some((key) => key.split("|").at(-1) !== pairs);
  }

  get(name) {
    return this.state[name];
  }

  set(name, value) {
    if (JSON.stringify(this.state[name]) === JSON.stringify(value)) return;
    this.previous ??= { ...this.state };
    this.state[name] = value;
    this.asked.add(name);
    this.changed(name);
  }

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  off(event, listener) {
    this.listeners.set(event, (this.listeners.get(event) ?? []).filter((one) => one !== listener));
  }

  changed(name) {
    for (const listener of this.listeners.get(`change:${name}`) ?? []) listener();
  }

  /** Whether the page has recorded what the round would be with these changes. */
  answers(changes) {
    return this.find({ ...this.state, ...changes }) !== undefined;
  }

  /** The patch for a state; where two changes met, the latter alone is looked for. */
  find(state) {
    const { state: first, patches } = this.recorded;
    const key = answerKey(state);
    return key === answerKey(first) ? {} : patches[key];
  }

  save_changes() {
    const rebuilding = [...KEY, "toggled"].filter((name) => this.asked.has(name));
    this.asked.clear();
    const previous = this.previous;
    this.previous = undefined;
    if (rebuilding.length) this.rebuild(rebuilding, previous);
    this.state.step = Math.min(this.state.step, this.total());
    this.remember();
  }

  rebuild(names, previous) {
    const { state: first, scene } = this.recorded;
    let patch = this.find(this.state);
    if (patch === undefined) {
      // Recorded is one change at a time: the others are taken back, and the page says so.
      for (const name of [...KEY, "toggled"]) if (!names.includes(name)) this.state[name] = first[name];
      if (names.includes("toggled")) this.state.toggled = this.lastToggle(previous?.toggled ?? first.toggled);
      patch = this.find(this.state);
      this.state.error = patch ? "This page has recorded one change at a time: the earlier change was taken back." : "This page has not recorded that: open the widget in a notebook, where every change is computed.";
    } else this.state.error = "";
    if (patch === undefined || patch.error) {
      if (patch?.error) this.state.error = patch.error;
      for (const name of [...KEY, "toggled"]) this.state[name] = previous?.[name] ?? first[name];
    } else {
      const ended = this.state.step >= this.total();
      this.state.scene = patched(scene, patch);
      if (ended) this.state.step = this.total();
    }
    for (const name of [...KEY, "toggled", "scene", "error"]) this.changed(name);
  }

  /** What was given, with the newest toggle alone. */
  lastToggle(before) {
    const has = (pairs, [u, v]) => pairs.some(([a, b]) => a === u && b === v);
    const asked = this.state.toggled;
    const changed = asked.find((pair) => !has(before, pair)) ?? before.find((pair) => !has(asked, pair));
    const given = this.recorded.state.toggled;
    return has(given, changed) ? given.filter((pair) => !has([pair], changed)) : [...given, changed];
  }

  total() {
    const { nodes } = this.state.scene;
    return Object.values(nodes).reduce((sum, node) => sum + node.sources.length + 1, 0);
  }

  /** What is on screen, as the address's hash, and back. */
  remember() {
    const { state, prefix } = this;
    const pairs = {
      round: state.round_index,
      sample: state.sample,
      aggr: state.aggr,
      message: state.message,
      toggled: state.toggled.map((pair) => pair.join("-")).join(","),
      step: state.step,
      selected: state.selected,
      views: state.views.join(","),
      theme: state.theme,
    };
    const own = Object.entries(pairs).map(([name, value]) => [prefix + name, value]);
    const others = [...addressed()].filter(([name]) => !name.startsWith(prefix));
    const hash = `#${new URLSearchParams([...others, ...own])}`;
    if (hash === location.hash) return;
    try {
      history.replaceState(null, "", hash);
    } catch {
      // A page in a `srcdoc` frame has no address, and Safari takes 100 changes in 30 seconds.
    }
  }

  recall() {
    const { prefix } = this;
    const own = [...addressed()].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]);
    const pairs = Object.fromEntries(own.filter(([name]) => LINKED.includes(name)));
    if (!Object.keys(pairs).length) return;
    const whole = (text, most) => (/^\d+$/.test(text ?? "") && Number(text) <= most ? Number(text) : undefined);
    const nodes = this.recorded.scene.num_nodes - 1;
    const asked = {
      round_index: whole(pairs.round, this.state.rounds.length - 1),
      sample: whole(pairs.sample, this.state.samples - 1),
      aggr: pairs.aggr,
      message: pairs.message,
      toggled: pairs.toggled === undefined ? undefined : pairs.toggled.split(",").filter(Boolean).map((pair) => pair.split("-").map((node) => whole(node, nodes))),
    };
    if (asked.toggled?.some((pair) => pair.length !== 2 || pair.includes(undefined))) delete asked.toggled;
    for (const [name, value] of Object.entries(asked)) if (value !== undefined) this.set(name, value);
    this.save_changes();
    const part = parsePart(pairs.selected ?? "");
    const fits = part && [part.node, part.u, part.v].every((node) => node === undefined || node <= nodes);
    const views = (pairs.views ?? VIEWS.join(",")).split(",").filter((view) => VIEWS.includes(view));
    this.set("step", whole(pairs.step, this.total()) ?? this.state.step);
    this.set("selected", fits ? pairs.selected : "");
    this.set("views", views);
    if (["auto", "light", "dark"].includes(pairs.theme)) this.set("theme", pairs.theme);
    this.asked.clear();
  }
}

/** Of several pages in one document, the second's names in the address begin with "2.". */
function renderRecorded(el, recorded) {
  const pages = [...document.querySelectorAll(".mpnn-round")];
  const model = new RecordedModel(recorded, pages.length > 1 ? `${pages.indexOf(el) + 1}.` : "");
  model.recall();
  window.addEventListener("hashchange", () => model.recall());
  render({ model, el });
}

export default { render };
