/** The beginning of a page in one file: everything that it needs stands in its own elements. */

import { startPage } from "./page.mjs";

/** Digits of the text form of bytes: base 85 of RFC 1924 without what HTML gives a meaning. */
const DIGITS =
  "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=:?@^_`{|}~";

/** The bytes in an element; their number stands in its attribute `data-bytes`. */
export function bytesIn(id) {
  const found = document.getElementById(id);
  if (!found) return null;
  const values = new Uint8Array(128);
  for (let k = 0; k < DIGITS.length; k++) values[DIGITS.charCodeAt(k)] = k;
  const text = found.textContent;
  const words = new DataView(new ArrayBuffer((4 * text.length) / 5));
  for (let at = 0, to = 0; at < text.length; at += 5, to += 4) {
    let word = 0;
    for (let k = 0; k < 5; k++) word = word * 85 + values[text.charCodeAt(at + k)];
    words.setUint32(to, word);
  }
  found.remove();
  return words.buffer.slice(0, Number(found.dataset.bytes));
}

/** Start the talker of this page. */
export function startInline() {
  const source = document.getElementById("worker-source").textContent;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const options = {
    worker: () => new Worker(address),
    modules: async () => ({ plain: bytesIn("kernels"), relaxed: bytesIn("kernels-relaxed") }),
  };
  return startPage(bytesIn("pack"), options, bytesIn("demo"));
}
