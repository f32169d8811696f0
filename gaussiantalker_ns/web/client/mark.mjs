/** The visible mark of synthetic pictures. */

const HEIGHT = 0.055;
const LEAST = 13;

/** A label as wide as its words, for a picture of some size. */
export function drawMark(text, size) {
  const height = Math.max(Math.round(HEIGHT * size), LEAST);
  const font = `600 ${Math.round(0.7 * height)}px system-ui, sans-serif`;
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  probe.font = font;
  const width = Math.min(Math.ceil(probe.measureText(text).width) + height, size);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "rgba(0, 0, 0, 0.55)";
  context.fillRect(0, 0, width, height);
  context.font = font;
  context.textBaseline = "middle";
  context.fillStyle = "#fff";
  context.fillText(text, height / 2, height / 2 + 1);
  return canvas;
}
