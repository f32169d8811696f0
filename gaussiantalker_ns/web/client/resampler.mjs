/** Resampling of a stream to 16 kHz, and of whole sounds to one channel. */

import { SAMPLE_RATE_HZ } from "./timebase.mjs";

const CROSSINGS = 16;
const CUTOFF = 0.95;

/** Takes mono samples of one rate in pieces and gives them back at 16 kHz, a millisecond later. */
export class StreamResampler {
  constructor(rate) {
    this.step = rate / SAMPLE_RATE_HZ;
    // Of a slower rate nothing has to be cut off.
    this.scale = CUTOFF / Math.max(this.step, 1);
    this.radius = Math.ceil(CROSSINGS / this.scale);
    this.buffer = new Float32Array(this.radius);
    this.position = this.radius;
  }

  push(samples) {
    if (this.step === 1) return samples;
    const joined = new Float32Array(this.buffer.length + samples.length);
    joined.set(this.buffer);
    joined.set(samples, this.buffer.length);
    const ready = [];
    while (this.position + this.radius < joined.length) {
      ready.push(this.sample(joined, this.position));
      this.position += this.step;
    }
    const start = Math.floor(this.position) - this.radius;
    this.buffer = joined.slice(start);
    this.position -= start;
    return Float32Array.from(ready);
  }

  /** Windowed sinc about a position between samples. */
  sample(values, position) {
    const centre = Math.floor(position);
    let sum = 0;
    for (let k = centre - this.radius + 1; k <= centre + this.radius; k++) {
      const x = (k - position) * this.scale;
      const taper = Math.cos((Math.PI * x) / (2 * CROSSINGS)) ** 2;
      const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
      if (Math.abs(x) < CROSSINGS) sum += values[k] * sinc * taper;
    }
    return sum * this.scale;
  }
}

/** The mean of some channels; where they cancel each other, the strongest one. */
export function mixed(channels) {
  if (channels.length === 1) return channels[0];
  const mean = new Float32Array(channels[0].length);
  for (const channel of channels) {
    for (let i = 0; i < mean.length; i++) mean[i] += channel[i] / channels.length;
  }
  const energies = channels.map(energy);
  const alone = energies.reduce((a, b) => a + b, 0);
  const together = energy(mean) * channels.length ** 2;
  return together < CANCELLED * alone ? channels[energies.indexOf(Math.max(...energies))] : mean;
}

/** Energy of the sum, as a fraction of the channels' own, below which they cancel each other. */
const CANCELLED = 0.25;

/** Energy of the differences of neighbours, which low hum does not rule. */
function energy(samples) {
  let sum = 0;
  for (let i = 1; i < samples.length; i++) sum += (samples[i] - samples[i - 1]) ** 2;
  return sum;
}
