// Elements of the page: HTML, SVG, MathML, canvases.

import { colour } from "./colours.js";
import { clamp } from "./numbers.js";

const SVG = "http://www.w3.org/2000/svg";
const MATH = "http://www.w3.org/1998/Math/MathML";

/** An HTML element; attributes "on..." are listeners, true is an empty one, false and undefined none. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export const button = (label, title, onclick, attributes = {}) =>
  element("button", { type: "button", title, onclick, ...attributes }, label);

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function math(tag, ...children) {
  const made = document.createElementNS(MATH, tag);
  made.append(...children);
  if (tag === "mspace") made.setAttribute("width", "0.35em");
  return made;
}

/** An equation on a line of its own. */
export function displayed(...children) {
  const whole = math("math", ...children);
  whole.setAttribute("display", "block");
  return whole;
}

/** "W_vu x_u + b_vu" as MathML; `names` puts node numbers in the place of u and v. */
export function formula(text, names = {}) {
  const row = math("mrow");
  const numbered = names.u !== undefined;
  for (const [, name, below, sign] of text.matchAll(/([A-Za-z]+\d?)(?:_([a-z]+))?|([^\sA-Za-z])/g)) {
    if (sign) {
      row.append(math("mo", sign === "*" ? "\u2217" : sign));
      continue;
    }
    const letter = math("mi", name === "alpha" ? "\u03b1" : name);
    if (/^[A-Z]\d?$/.test(name)) letter.setAttribute("class", "mr-bold");
    const indices = [...(below ?? "")].flatMap((b, i) => {
      const index = math("mi", String(names[b] ?? b));
      return i && numbered ? [math("mo", ","), index] : [index];
    });
    row.append(below ? math("msub", letter, math("mrow", ...indices)) : letter);
  }
  return row;
}

/** The element within `part` that has the focus; marimo's shadow root, if it is in one, knows it, not the document. */
export function focusedIn(part) {
  const focused = part.getRootNode().activeElement;
  return part.contains(focused) ? focused : null;
}

/** A canvas of `width` x `height` CSS pixels, sharp on this screen. */
export function fit(canvas, width, height) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/** How many CSS pixels a drawing in `box` is wide. */
export const drawingWidth = (box) => clamp(box.clientWidth, 220, 620);

/** An SVG of `width` x `height` CSS pixels. */
export function fitSvg(drawing, width, height) {
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.setAttribute("width", width);
  drawing.setAttribute("height", height);
}

/** Numbers as an image of `rows` x `columns` pixels. */
export function picture(values, rows, columns, largest, theme) {
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

/** A part of the widget under its heading. */
export function section(view, title, ...children) {
  const attributes = { class: "mr-view", "data-view": view, "aria-label": title };
  return element("section", attributes, element("h2", {}, title), ...children);
}
