// Numbers written on their colours, and maps as small pictures.

import { colour, css, readableOn } from "./colours.js";
import { element, picture } from "./elements.js";
import { range, shown } from "./numbers.js";

export const CELL = 46; // pixels that a number takes

const more = (text) => element("span", { class: "mr-more" }, text);

function cell(value, largest, theme) {
  const fill = colour(value / largest, theme);
  const text = shown(value, largest);
  const long = text.length > 7 ? " is-longest" : text.length > 6 ? " is-long" : "";
  const made = element("span", { class: `mr-cell${long}` }, text);
  made.style.background = css(fill);
  made.style.color = readableOn(fill);
  return made;
}

/** Numbers by rows, at most `most` of them each way; "…" where there are more. */
export function cells(values, [rows, columns], largest, theme, most) {
  const few = Math.max(2, most);
  const [down, across] = [Math.min(rows, few), Math.min(columns, few)];
  const box = element("div", { class: "mr-cells" });
  box.style.gridTemplateColumns = `repeat(${across}, ${CELL - 1}px)${columns > across ? " max-content" : ""}`;
  for (const i of range(down)) {
    box.append(...range(across).map((j) => cell(values[i * columns + j], largest, theme)));
    if (columns > across) box.append(more("\u2026"));
  }
  if (rows > down) box.append(more("\u22ee"));
  return box;
}

/** `count` maps side by side, at most `most`, `side` pixels each. */
export function maps(values, count, [rows, columns], largest, theme, most = 6, side = 44) {
  const box = element("div", { class: "mr-maps" });
  for (const i of range(Math.min(count, most))) {
    const map = picture(values.subarray(i * rows * columns, (i + 1) * rows * columns), rows, columns, largest, theme);
    map.className = "mr-thumbnail";
    map.style.width = map.style.height = `${side}px`;
    box.append(map);
  }
  if (count > most) box.append(more(`\u2026 ${count} in all`));
  return box;
}

/** A line of the equation: what it is, and its numbers. */
export const line = (label, content, attributes = {}) =>
  element("div", { class: "mr-line", ...attributes }, element("span", { class: "mr-label" }, label), content);

export const stacked = (label, content) =>
  element("div", { class: "mr-stacked" }, element("span", { class: "mr-label" }, label), content);

export const sentence = (...parts) => element("p", { class: "mr-says" }, ...parts);
