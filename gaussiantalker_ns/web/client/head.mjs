/** The head: conditions of a frame to tokens, to deformed Gaussians, to splats in the picture. */

import { padded } from "./kernels.mjs";
import { Sequence } from "./networks.mjs";
import { clamp } from "./timebase.mjs";

const TOKENS = 4;
const SPLAT_FLOATS = 12;
const NEVER = -1e4;
const EYE_FREQUENCIES = 16;

/** The trained head of one talker. */
export class Head {
  constructor(kernels, talker) {
    const { head, eye, layers } = talker.header;
    this.kernels = kernels;
    this.sizes = head;
    this.eye = eye;
    this.null = talker.has("null") ? talker.tensor("null") : null;
    this.eyeNet = layers.eye ? new Sequence(kernels, talker, layers.eye, 1) : null;
    this.viewpointNet = layers.viewpoint ? new Sequence(kernels, talker, layers.viewpoint, 1) : null;
    const [count, width] = talker.shape("head.features");
    const [hidden, columns] = talker.shape("head.output.weight");
    this.count = count;
    this.width = width;
    this.stride = padded(columns);
    this.tokens = kernels.floats(TOKENS * width);
    this.pose = kernels.bytes(12 * 8);
    this.splats = kernels.floats(count * SPLAT_FLOATS);
    this.projection = kernels.floats(kernels.call.project_scratch(count));
    this.gaussians = kernels.floats(count * this.stride);
    this.deformation = this.describe(talker, count, width, hidden);
    kernels.call.deform_prepare(this.deformation);
  }

  /** Fill the struct `Deformation` of native/deform.c. */
  describe(talker, count, width, hidden) {
    const { kernels, stride } = this;
    const heads = this.sizes.num_heads;
    const raw = (name) => kernels.put(talker.tensor(`head.${name}`));
    const panels = (name) => {
      const [depth, columns] = talker.shape(`head.${name}`);
      return kernels.pack(talker.tensor(`head.${name}`), depth, columns);
    };
    const canonical = kernels.put(this.canonical(talker));
    const bias = kernels.putRow(talker.tensor("head.output.bias"));
    const fields = [
      count, width, heads, hidden, stride,
      raw("features"), kernels.put(this.mask(talker)), raw("query.weight"), raw("query.bias"),
      panels("key.weight"), raw("key.bias"), panels("value.weight"), raw("value.bias"),
      raw("out.weight"), raw("out.bias"), raw("hidden.weight"), raw("hidden.bias"),
      panels("output.weight"), bias, canonical, this.gaussians, kernels.floats(count),
      kernels.floats(count * hidden),
      kernels.floats(kernels.call.deform_scratch(width, heads, hidden)),
    ];
    const struct = kernels.bytes(4 * fields.length);
    new Uint32Array(kernels.call.memory.buffer, struct, fields.length).set(fields);
    return struct;
  }

  /** Canonical Gaussians, a row each: centre, then what comes from `head.shapes`. */
  canonical(talker) {
    const means = talker.tensor("head.means");
    const shapes = talker.tensor("head.shapes");
    const columns = talker.shape("head.shapes")[1];
    const rows = new Float32Array(this.count * this.stride);
    for (let i = 0; i < this.count; i++) {
      rows.set(means.subarray(3 * i, 3 * i + 3), i * this.stride);
      rows.set(shapes.subarray(columns * i, columns * (i + 1)), i * this.stride + 3);
    }
    return rows;
  }

  /** Logarithm of each token's weight at each Gaussian; fields/tokens.py has the formula. */
  mask(talker) {
    const means = talker.tensor("head.means");
    const [low, high] = this.sizes.mouth_border;
    const logs = new Float32Array(this.count * TOKENS).fill(NEVER);
    this.sizes.tokens.forEach((token, k) => {
      for (let i = 0; i < this.count; i++) {
        const fraction = clamp((means[3 * i + 1] - low) / (high - low), 0, 1);
        const weight = token.upper_face_only ? fraction * fraction * (3 - 2 * fraction) : 1;
        logs[i * TOKENS + k] = Math.max(Math.log(weight), NEVER);
      }
    });
    return logs;
  }

  /**
   * Deform the head.
   * @param {Float32Array} audio The frame's audio token.
   * @param {Float32Array} eye Eye signal as measured.
   * @param {number|null} closure Closure of the lids that replaces the signal's own.
   * @param {Float64Array} pose Rotation row by row, then translation.
   */
  deform(audio, eye, closure, pose) {
    const found = {
      audio: () => audio,
      eye: () => run(this.eyeNet, this.eyeSignal(eye, closure)),
      viewpoint: () => run(this.viewpointNet, this.viewpoint(pose)),
      null: () => this.null,
    };
    this.sizes.tokens.forEach((token, k) => {
      const values = found[token.name]();
      this.kernels.view(this.tokens + 4 * k * this.width, this.width).set(values.subarray(0, this.width));
    });
    this.kernels.call.deform(this.deformation, this.tokens);
  }

  eyeSignal(measured, closure) {
    const { form, mean, std, blink_range: range, num_brows: brows } = this.eye;
    if (form === "au45") {
      const [low, high] = [range[0][0], range[1][0]];
      const blink = closure === null ? measured[0] : high > low ? closure : low;
      return blinkEncoding(blink);
    }
    const signal = measured.map((value, k) => (value - mean[k]) / std[k]);
    if (closure !== null) {
      // Gaze and squint belong to the frame's own blink; their mean goes with another one.
      signal.fill(0, brows);
      const [first, stop] = this.eye.blink_places;
      for (let k = first; k < stop; k++) {
        const [low, high] = [range[0][k - first], range[1][k - first]];
        signal[k] = (low + closure * (high - low) - mean[k]) / std[k];
      }
    }
    return signal.map(Math.asinh);
  }

  viewpoint(pose) {
    const [low, high] = this.eye.viewpoint_range;
    return Float32Array.from(pose, (value, k) => {
      const inside = clamp(value, low[k], high[k]);
      return inside + (this.eye.viewpoint_gain - 1) * (inside - (low[k] + high[k]) / 2);
    });
  }

  /** Splats in a picture of some size, the nearest first; returns how many are at `this.splats`. */
  project(pose, size) {
    const { camera, sh_degree: degree } = this.sizes;
    const scale = size / this.sizes.size;
    new Float64Array(this.kernels.call.memory.buffer, this.pose, 12).set(pose);
    return this.kernels.call.project(
      this.count, this.stride, this.gaussians, degree, this.pose, camera.fx * scale,
      camera.fy * scale, camera.cx * scale, camera.cy * scale, size, size, this.projection,
      this.splats
    );
  }
}

function run(net, values) {
  net.run(values, values.length);
  return net.result(net.outStride);
}

/** Sines and cosines of a blink; fields/tokens.py. */
function blinkEncoding(blink) {
  const angles = Array.from({ length: EYE_FREQUENCIES }, (_, k) => {
    const octave = -2 + (4 * k) / (EYE_FREQUENCIES - 1);
    return 2 * Math.PI * 2 ** octave * (blink - 0.5);
  });
  return Float32Array.from([...angles.map(Math.sin), ...angles.map(Math.cos)]);
}
