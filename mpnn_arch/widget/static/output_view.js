// The round's output beside that of the dense layer with the same weights.

import { line, sentence } from "./cells.js";
import { colour, css } from "./colours.js";
import { element, fit, picture } from "./elements.js";
import { updatesIn } from "./scene.js";

export class OutputView {
  constructor(screen) {
    this.screen = screen;
    this.element = element("section", { class: "mr-output", "aria-label": "Output" });
    this.width = 0; // of a strip, in pixels
    this.strips = [];
  }

  draw(changed) {
    if (changed.all) this.build();
    if (!changed.updates) return;
    for (const strip of this.strips) this.paint(strip, changed.all ? undefined : changed.from);
  }

  build() {
    const { scene } = this.screen;
    const whole = this.element.clientWidth;
    this.width = Math.max(160, whole - 24 - (whole > 480 ? 100 : 70));
    this.strips = [];
    const output = line("output", this.strip("output", "output of the round"));
    if (!scene.nodes[0].dense) {
      this.element.replaceChildren(output, sentence(`No dense layer to compare with: ${scene.no_dense}.`));
      return;
    }
    const difference = scene.difference === 0 ? "0" : (scene.difference?.toExponential(2) ?? "none is finite");
    this.element.replaceChildren(
      output,
      line("dense layer", this.strip("dense", "output of the dense layer")),
      sentence("Largest difference between the round and the dense layer with the same weights: ",
        element("strong", { "data-fact": "difference" }, difference), "."),
    );
  }

  /** A canvas for the numbers `key` of every node. */
  strip(key, label) {
    const canvas = element("canvas", { role: "img", "aria-label": `${label}, one stripe a channel` });
    this.strips.push({ key, canvas });
    return canvas;
  }

  /** A stripe for each channel of the nodes that have updated; going forward only the new ones. */
  paint({ key, canvas }, before) {
    const { width } = this;
    const { scene, step, theme } = this.screen;
    const from = before === undefined || step < before ? null : before;
    const high = scene.map_out.length ? 40 : 18;
    const context = from === null ? fit(canvas, width, high) : canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const channels = scene.outOffsets.at(-1);
    const wide = Math.max(1, width / channels - (channels < 100 ? 1 : 0));
    for (let v = updatesIn(scene, from ?? 0); v < updatesIn(scene, step); v++) {
      const node = scene.nodes[v];
      for (let c = 0; c < scene.out_sizes[v]; c++) {
        const x = ((scene.outOffsets[v] + c) * width) / channels;
        const values = node[key].subarray(c * scene.pixelsOut, (c + 1) * scene.pixelsOut);
        if (scene.map_out.length) {
          context.drawImage(picture(values, ...scene.map_out, scene.largest.output, theme), x, 0, wide, high);
        } else {
          context.fillStyle = css(colour(values[0] / scene.largest.output, theme));
          context.fillRect(x, 0, wide, high);
        }
      }
    }
  }
}
