// The round's output beside that of the dense layer with the same weights.

import { line, sentence } from "./cells.js";
import { colour, css } from "./colours.js";
import { element, fit, picture } from "./elements.js";
import { progress } from "./scene.js";

export class OutputView {
  constructor(screen) {
    this.screen = screen;
    this.element = element("section", { class: "mr-output", "aria-label": "Output" });
  }

  draw(changed) {
    if (!changed.updates) return;
    const { scene } = this.screen;
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

  /** A stripe for each channel of the nodes that have updated. */
  strip(key, label) {
    const { scene, step, theme } = this.screen;
    const whole = this.element.clientWidth;
    const width = Math.max(160, whole - 24 - (whole > 480 ? 100 : 70));
    const high = scene.map_out.length ? 40 : 18;
    const canvas = element("canvas", { role: "img", "aria-label": `${label}, one stripe a channel` });
    const context = fit(canvas, width, high);
    context.imageSmoothingEnabled = false;
    const channels = scene.outOffsets.at(-1);
    const wide = Math.max(1, width / channels - (channels < 100 ? 1 : 0));
    scene.nodes.forEach((node, v) => {
      if (!progress(scene, v, step).done) return;
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
    });
    return canvas;
  }
}
