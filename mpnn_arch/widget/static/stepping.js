// Steps of a round, one message or update each: by hand, and by itself.

import { button, element } from "./elements.js";
import { clamp } from "./numbers.js";
import { lastEvent, nameOf } from "./scene.js";

/** Forward and back, into the rounds before and after. */
function movesOn(screen) {
  const { model } = screen;
  const atEnd = () => screen.step === screen.scene.total;
  const enter = (by, changes) => {
    const to = model.get("round_index") + by;
    if (to >= 0 && to < screen.rounds) screen.set({ round_index: to, selected: "", ...changes });
  };
  return {
    start: () => screen.go(0),
    back: () => {
      if (screen.step > 0) screen.go(screen.step - 1);
      // The last step of this round stands for that of the one before, whose number may be another.
      else enter(-1, { step: screen.scene.total });
    },
    message: () => (atEnd() ? enter(1, { step: 0 }) : screen.go(screen.step + 1)),
    node: () => {
      if (atEnd()) enter(1, { step: 0 });
      else screen.go(screen.scene.begin.find((boundary) => boundary > screen.step));
    },
    round: () => (atEnd() ? enter(1, {}) : screen.go(screen.scene.total)),
  };
}

/** The buttons, the slider and the sentence below it. */
export class Stepping {
  constructor(screen, root) {
    this.screen = screen;
    this.root = root;
    this.timer = null;
    const moves = movesOn(screen);
    this.play = button("Play", "Play the round", () => this.playOrStop(), { "data-step": "play", class: "mr-primary" });
    this.slider = element("input", {
      type: "range", min: 0, "aria-label": "Step of the round", oninput: () => screen.go(Number(this.slider.value)),
    });
    this.text = element("output", { class: "mr-step-text" });
    const start = "To the start of the round";
    const forward = "Forward to the end of";
    this.element = element("div", { class: "mr-steps", role: "group", "aria-label": "Steps of the round" },
      button("|\u25c0", start, moves.start, { "data-step": "start", "aria-label": start }),
      button("\u25c0 back", "One step back", moves.back, { "data-step": "back" }),
      this.play,
      button("message \u25b6", "Forward one message (or update)", moves.message, { "data-step": "message" }),
      button("node \u25b6", `${forward} a node: all its messages and its update`, moves.node, { "data-step": "node" }),
      button("round \u25b6", `${forward} the round, then to the next round`, moves.round, { "data-step": "round" }),
      this.slider, this.text);
  }

  draw() {
    const { scene, step, model } = this.screen;
    const playing = model.get("playing");
    this.play.textContent = playing ? "Pause" : "Play";
    this.text.setAttribute("aria-live", playing ? "off" : "polite"); // too many to be read
    this.slider.max = scene.total;
    this.slider.value = step;
    const event = lastEvent(scene, step);
    this.text.textContent = step === 0 ? "before the round" : `step ${step} of ${scene.total}: ` +
      (event.edge ? `message ${event.edge.u} \u2192 ${event.edge.v}` : `node ${event.node} updates`);
    this.slider.setAttribute("aria-valuetext", this.text.textContent);
  }

  playOrStop() {
    const { screen } = this;
    const playing = !screen.model.get("playing");
    if (playing && screen.step === screen.scene.total) screen.go(0);
    screen.set({ playing });
  }

  /** Play frame by frame while the model says so; a whole round takes some 4 to 30 seconds. */
  keepPlaying() {
    this.stop();
    const { screen } = this;
    const { model } = screen;
    if (!model.get("playing") || !this.root.isConnected) return;
    const seconds = clamp(screen.scene.total * 0.35, 4, 30);
    let last = performance.now();
    let saved = last;
    let at = screen.step;
    const tick = (now) => {
      if (!model.get("playing")) return;
      const { total } = screen.scene;
      if (Math.floor(at) !== screen.step) at = screen.step; // moved by something else
      at = Math.min(total, at + ((now - last) / 1000) * (total / seconds));
      last = now;
      const to = Math.floor(at);
      if (to !== screen.step) this.show(to);
      if (to === total) model.set("playing", false);
      if (now - saved > 250 || to === total) {
        model.save_changes();
        saved = now;
      }
      if (to < total) this.timer = requestAnimationFrame(tick);
    };
    this.timer = requestAnimationFrame(tick);
  }

  /** A step that is played; Python is told of some of them. */
  show(step) {
    const { screen } = this;
    const event = lastEvent(screen.scene, step);
    screen.hovered = "";
    screen.model.set("step", step);
    if (event) screen.model.set("selected", nameOf(event));
  }

  stop() {
    cancelAnimationFrame(this.timer);
  }
}
