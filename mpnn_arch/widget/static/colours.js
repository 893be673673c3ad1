// The colours of numbers, on a light page and a dark one.

import { clamp, range, shown } from "./numbers.js";

// Blue, neutral, orange: told apart by readers with every common kind of colour blindness.
const SCALES = {
  light: [[8, 81, 156], [66, 146, 198], [245, 245, 243], [230, 133, 30], [153, 61, 0]],
  dark: [[130, 196, 255], [44, 116, 179], [38, 42, 48], [190, 98, 18], [255, 190, 110]],
};

/** A number of -1 to 1 as [r, g, b]; grey for what is not finite. */
export function colour(value, theme) {
  const stops = SCALES[theme];
  if (!Number.isFinite(value)) return [128, 128, 128];
  const at = (clamp(value, -1, 1) + 1) * 2;
  const low = Math.min(3, Math.floor(at));
  return range(3).map((i) => Math.round(stops[low][i] + (at - low) * (stops[low + 1][i] - stops[low][i])));
}

export const sides = (largest) => `blue below 0, orange above, within \u00b1${shown(largest)}`;
export const css = (rgb) => `rgb(${rgb.join(",")})`;

/** Black or white, whichever is read on the colour. */
export function readableOn(rgb) {
  const [r, g, b] = rgb.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

/** The theme asked for; else that of the notebook, of the page around `el`, of the system. */
export function themeOf(model, el) {
  const asked = model.get("theme");
  if (asked !== "auto") return asked;
  const jupyter = document.body.dataset.jpThemeLight;
  if (jupyter) return jupyter === "false" ? "dark" : "light";
  if (el.closest(".dark, .vscode-dark, .vscode-high-contrast, [data-theme='dark']:not(.mr)")) return "dark";
  if (document.body.matches(".vscode-light, .light")) return "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
