// Numbers as Python packs them, as they are counted with, and as they are written.

// What the codes stand for that are no multiples of the scale.
const NOT_FINITE = { 32767: Infinity, [-32767]: -Infinity, [-32768]: NaN };

/** The numbers that scene.py packed: "scale;base64 of little-endian int16". */
export function unpack(text) {
  if (text === undefined) return null;
  const [scale, data] = text.split(";");
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const numbers = new Float64Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i++) {
    const whole = view.getInt16(2 * i, true);
    numbers[i] = Math.abs(whole) < 32767 ? whole * Number(scale) : NOT_FINITE[whole];
  }
  return numbers;
}

/** The largest size of a finite number in the lists, 1 if all are 0; a list may be null. */
export function largestOf(lists) {
  let largest = 0;
  for (const list of lists)
    for (const x of list ?? []) if (Math.abs(x) > largest && Number.isFinite(x)) largest = Math.abs(x);
  return largest || 1;
}

export const mean = (list) => list.reduce((sum, x) => sum + x, 0) / (list.length || 1);
export const offsetsOf = (sizes) => sizes.reduce((sums, size) => [...sums, sums.at(-1) + size], [0]);
export const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
export const range = (n) => Array.from({ length: n }, (_, i) => i);

/** A number beside others of which the largest is `largest`, to three of its digits. */
export function shown(number, largest = number) {
  if (Number.isNaN(number)) return "n/a";
  if (!Number.isFinite(number)) return number > 0 ? "\u221e" : "\u2212\u221e";
  const size = Math.abs(largest);
  if (number !== 0 && (size < 0.01 || size >= 100000))
    return number.toExponential(1).replace("e+", "e").replaceAll("-", "\u2212");
  const decimals = size === 0 ? 2 : clamp(2 - Math.floor(Math.log10(size)), 0, 4);
  return number.toFixed(decimals).replace(/^-(?=0\.?0*$)/, "").replace("-", "\u2212");
}

export const messages = (count) => (count === 1 ? "1 message" : `${count} messages`);
