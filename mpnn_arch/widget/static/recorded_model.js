// The model of an exported page, which answers from the scenes recorded in it.

import { parsePart } from "./scene.js";
import { REBUILDING, VIEWS } from "./screen.js";

const CHOICES = REBUILDING.filter((name) => name !== "toggled");
const LINKED = ["round", "sample", "aggr", "message", "toggled", "step", "selected", "views", "theme"];
const addressed = () => new URLSearchParams(location.hash.slice(1));

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

/** As export.py's `answer_key`. */
function answerKey(state) {
  const pairs = state.toggled.map(([u, v]) => [u, v]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return [...CHOICES.map((name) => state[name]), pairs.map((pair) => pair.join("-")).join(" ")].join("|");
}

/** A model that answers from recorded scenes, and keeps what is on screen in the address. */
export class RecordedModel {
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
    const rebuilding = REBUILDING.filter((name) => this.asked.has(name));
    this.asked.clear();
    const previous = this.previous;
    this.previous = undefined;
    if (rebuilding.length) this.rebuild(rebuilding, previous);
    this.state.step = Math.min(this.state.step, this.total());
    // Not while it plays: writing the address takes as long as drawing, and Safari takes 100 changes in 30 seconds.
    if (!this.state.playing) this.remember();
  }

  rebuild(names, previous) {
    const { state: first, scene } = this.recorded;
    let patch = this.find(this.state);
    if (patch === undefined) {
      // Recorded is one change at a time: the others are taken back, and the page says so.
      for (const name of REBUILDING) if (!names.includes(name)) this.state[name] = first[name];
      if (names.includes("toggled")) this.state.toggled = this.lastToggle(previous?.toggled ?? first.toggled);
      patch = this.find(this.state);
      this.state.error = patch
        ? "This page has recorded one change at a time: the earlier change was taken back."
        : "This page has not recorded that: open the widget in a notebook, where every change is computed.";
    } else this.state.error = "";
    if (patch === undefined || patch.error) {
      if (patch?.error) this.state.error = patch.error;
      for (const name of REBUILDING) this.state[name] = previous?.[name] ?? first[name];
    } else {
      const ended = this.state.step >= this.total();
      this.state.scene = patched(scene, patch);
      if (ended) this.state.step = this.total();
    }
    for (const name of [...REBUILDING, "scene", "error"]) this.changed(name);
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
      // A page in a `srcdoc` frame has no address.
    }
  }

  recall() {
    const { prefix } = this;
    const own = [...addressed()].filter(([name]) => name.startsWith(prefix));
    const named = own.map(([name, value]) => [name.slice(prefix.length), value]);
    const pairs = Object.fromEntries(named.filter(([name]) => LINKED.includes(name)));
    if (!Object.keys(pairs).length) return;
    const whole = (text, most) => (/^\d+$/.test(text ?? "") && Number(text) <= most ? Number(text) : undefined);
    const nodes = this.recorded.scene.num_nodes - 1;
    const pairOf = (text) => text.split("-").map((node) => whole(node, nodes));
    const asked = {
      round_index: whole(pairs.round, this.state.rounds.length - 1),
      sample: whole(pairs.sample, this.state.samples - 1),
      aggr: pairs.aggr,
      message: pairs.message,
      toggled: pairs.toggled?.split(",").filter(Boolean).map(pairOf),
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

