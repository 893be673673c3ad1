// What surrounds the views: menus, facts, notes.

import { button, element } from "./elements.js";
import { clamp } from "./numbers.js";
import { MOST_NODES_DRAWN, TITLES, VIEWS } from "./screen.js";

const FACTS = [
  ["nodes", "nodes"],
  ["edges", "edges"],
  ["clustering_coefficient", "clustering C"],
  ["average_path_length", "path length L"],
  ["parameters", "parameters"],
  ["multiply_adds", "multiply-adds"],
];
const EDIT = "While pressed, a click on an edge or a block adds it or takes it away, and a drag from node to node " +
  "adds or takes away their edge";

/** A menu whose choice is a trait of the model. */
class Menu {
  constructor(screen, label, trait) {
    this.screen = screen;
    this.trait = trait;
    this.byIndex = trait === "round_index";
    const onchange = () => screen.set({ [trait]: this.byIndex ? this.select.selectedIndex : this.select.value });
    this.select = element("select", { onchange, "data-trait": trait });
    this.label = element("label", { class: "mr-menu" }, element("span", {}, label), this.select);
  }

  /** Choices that a recorded page cannot answer are grey. */
  fill(names) {
    const { model } = this.screen;
    const asked = names.map((name, i) => ({ [this.trait]: this.byIndex ? i : name }));
    const greyed = asked.map((changes) => Boolean(model.answers && !model.answers(changes)));
    const key = JSON.stringify([names, greyed]);
    if (this.select.dataset.names !== key) {
      const options = names.map((name, i) => element("option", { value: name, disabled: greyed[i] }, name));
      this.select.replaceChildren(...options);
      this.select.dataset.names = key;
    }
    const chosen = model.get(this.trait);
    this.select.value = this.byIndex ? names[chosen] : chosen;
  }
}

/** Python's `facts` as words, such as C and L, which not every graph has. */
function shownFact(name, value, nodes) {
  if (value === undefined || value === null) return nodes === 1 ? "one node" : "not connected";
  return /clustering|path/.test(name) ? value.toFixed(3) : value.toLocaleString("en");
}

/** The button of a recorded page that copies its address. */
function linkTo(model) {
  const said = element("span", { role: "status", class: "mr-said" });
  const copy = async () => {
    model.remember();
    try {
      await navigator.clipboard.writeText(location.href);
      said.textContent = "copied";
    } catch {
      said.textContent = "The address of this page is the link.";
    }
  };
  return [
    button("Copy link", "Copy a link to what is on screen now", copy, { "data-action": "link" }),
    said,
    element("span", { class: "mr-said", "data-said": "recorded" }, "A recording: choices in grey need Python."),
  ];
}

/** Menus and buttons above, and what is said of the round below them. */
export class Frame {
  constructor(screen) {
    this.screen = screen;
    const { model } = screen;
    this.round = new Menu(screen, "Round", "round_index");
    this.message = new Menu(screen, "Message f", "message");
    this.aggr = new Menu(screen, "AGG", "aggr");
    const onchange = () => this.chooseSample();
    this.sample = element("input", { type: "number", min: 0, onchange, "data-trait": "sample" });
    this.sampleLabel = element("label", { class: "mr-menu" }, element("span", {}, "Sample"), this.sample);
    this.views = VIEWS.map((view) => {
      const title = `Show or hide: ${TITLES[view].toLowerCase()}`;
      return button(TITLES[view], title, () => this.toggleView(view), { "data-view-button": view });
    });
    this.edit = button("Edit edges", EDIT, () => this.toggleEditing(), { "data-action": "edit" });
    this.bar = element("div", { class: "mr-bar" },
      this.round.label, this.message.label, this.aggr.label, this.sampleLabel,
      element("div", { class: "mr-group", role: "group", "aria-label": "Views" }, ...this.views), this.edit,
      ...(model.linkable ? linkTo(model) : []));
    this.values = Object.fromEntries(FACTS.map(([key]) => [key, element("dd", { "data-fact": key })]));
    this.facts = element("dl", { class: "mr-facts" },
      ...FACTS.map(([key, label]) => element("div", {}, element("dt", {}, label), this.values[key])));
    this.error = element("p", { class: "mr-error", role: "alert" });
    this.notes = element("ul", { class: "mr-notes" });
    this.stale = true; // whether what it shows may have changed
    this.elements = [this.bar, this.facts, this.error, screen.waiting, screen.told, this.notes];
  }

  chooseSample() {
    const most = this.screen.model.get("samples") - 1;
    this.sample.value = clamp(Math.round(Number(this.sample.value)) || 0, 0, most);
    this.screen.set({ sample: Number(this.sample.value) });
  }

  toggleView(view) {
    const views = this.screen.model.get("views");
    this.screen.set({ views: VIEWS.filter((one) => views.includes(one) !== (one === view)) });
  }

  toggleEditing() {
    this.screen.editing = !this.screen.editing;
    this.stale = true;
    this.screen.invalidate();
  }

  draw() {
    this.stale = false;
    const { model, scene, editing } = this.screen;
    this.round.fill(model.get("rounds"));
    this.message.fill(model.get("menus").message);
    this.aggr.fill(model.get("menus").aggr);
    this.round.label.hidden = this.screen.rounds < 2;
    this.sampleLabel.hidden = model.get("samples") < 2;
    this.sample.max = model.get("samples") - 1;
    this.sample.value = model.get("sample");
    const large = scene.num_nodes > MOST_NODES_DRAWN;
    for (const [i, view] of VIEWS.entries()) {
      const absent = large && view === "graph"; // there is no drawing to show
      this.views[i].disabled = absent;
      this.views[i].setAttribute("aria-pressed", !absent && model.get("views").includes(view));
    }
    this.edit.setAttribute("aria-pressed", editing);
    this.edit.disabled = model.toggles === false;
    for (const [key] of FACTS) this.values[key].textContent = shownFact(key, scene.facts[key], scene.num_nodes);
    const sentence = model.get("error");
    if (this.error.textContent !== sentence) this.error.textContent = sentence;
    const remarks = JSON.stringify(scene.notes);
    if (this.notes.dataset.remarks !== remarks) {
      this.notes.replaceChildren(...scene.notes.map((note) => element("li", {}, note)));
      this.notes.dataset.remarks = remarks;
    }
  }
}
