/** Sound to audio tokens, frame by frame: windows, silence gate, smoothing, context. */

import { framePower, GATE_RADIUS, RunningGain, silenceFraction } from "./loudness.mjs";
import { clamp, SAMPLES_PER_FRAME } from "./timebase.mjs";
import { FILE_LAYOUT } from "./whisper.mjs";

const SMOOTHING_FRAMES = 0.6;

/** What a file waits for: all that the training saw. */
export const FILE_TIMING = {
  ...FILE_LAYOUT, hops: [FILE_LAYOUT.hop], lookAhead: Infinity, radiusAhead: 2, gateAhead: 2,
};

/**
 * What a microphone waits for: 120 ms behind the start of a hop of two frames. Where more has been
 * heard, as on a slow machine, more is encoded at a time, which costs less.
 */
export const LIVE_TIMING = {
  past: 50, hop: 2, ahead: 1, hops: [8, 4, 2], lookAhead: 1, radiusAhead: 0, gateAhead: 1,
};

/** Rows of features in, windows of finished frames out; inference/feature_stream.py. */
class FeatureStream {
  constructor(offsets, silence, timing) {
    this.offsets = offsets;
    this.silence = silence;
    this.timing = timing;
    this.rows = new Map();
    this.smooth = new Map();
    this.powers = new Map();
    this.numRows = 0;
    this.numPowers = 0;
    this.next = 0;
    this.ended = false;
    const taps = [-2, -1, 0, 1, 2].filter((tap) => tap <= timing.radiusAhead);
    const weights = taps.map((tap) => Math.exp(-0.5 * (tap / SMOOTHING_FRAMES) ** 2));
    const sum = weights.reduce((a, b) => a + b, 0);
    this.taps = taps.map((tap, i) => [tap, weights[i] / sum]);
    this.lookAhead = Math.min(offsets[1], timing.lookAhead);
  }

  pushPower(value) {
    this.powers.set(this.numPowers++, value);
  }

  pushRow(row) {
    this.rows.set(this.numRows++, row);
  }

  /** Frames whose windows no later row or power changes. */
  get numComplete() {
    if (this.ended) return this.numRows;
    const gated = this.numPowers - this.timing.gateAhead;
    return Math.min(this.numRows, gated) - this.lookAhead - this.timing.radiusAhead;
  }

  /** Smoothed rows in the context of the next frame, or null while they are not complete. */
  window() {
    if (this.next >= this.numComplete) return null;
    const frame = this.next++;
    const last = this.numRows - 1;
    const rows = [];
    for (let offset = this.offsets[0]; offset <= this.offsets[1]; offset++) {
      rows.push(this.smoothed(clamp(frame + Math.min(offset, this.lookAhead), 0, last)));
    }
    this.forget(frame + this.offsets[0]);
    return rows;
  }

  smoothed(frame) {
    if (this.smooth.has(frame)) return this.smooth.get(frame);
    const last = this.numRows - 1;
    const sum = new Float32Array(this.silence.length);
    for (const [tap, weight] of this.taps) {
      const row = this.gated(clamp(frame + tap, 0, last));
      for (let k = 0; k < sum.length; k++) sum[k] += weight * row[k];
    }
    this.smooth.set(frame, sum);
    return sum;
  }

  gated(frame) {
    const row = this.rows.get(frame);
    if (!this.silence.known) return row;
    let sum = 0;
    let count = 2 * GATE_RADIUS + 1;
    for (let k = frame - GATE_RADIUS; k <= frame + GATE_RADIUS; k++) {
      if (k > frame + this.timing.gateAhead) count--;
      else sum += this.powers.get(k) ?? 0;
    }
    const fraction = silenceFraction(sum / count);
    if (fraction === 0) return row;
    return row.map((value, k) => (1 - fraction) * value + fraction * this.silence.row[k]);
  }

  /** Drop what no later frame looks back to. */
  forget(first) {
    const oldest = first - 2 - GATE_RADIUS - 1;
    for (const kept of [this.rows, this.powers, this.smooth]) {
      for (const frame of kept.keys()) {
        if (frame >= oldest) break;
        kept.delete(frame);
      }
    }
  }
}

/** One sound: samples at 16 kHz in, audio tokens of frames out. */
export class SpeechStream {
  /**
   * @param speech The networks (`Speech`).
   * @param timing `FILE_TIMING` or `LIVE_TIMING`.
   * @param {number|null} gain The factor that levels the speech; null follows it.
   */
  constructor(speech, timing, gain) {
    this.speech = speech;
    this.timing = timing;
    this.gain = gain === null ? new RunningGain() : null;
    this.fixedGain = gain;
    this.features = new FeatureStream(speech.offsets, speech.silence, timing);
    const { past } = timing;
    // Samples from `past` frames before the next frame on; silence comes before the stream.
    this.buffer = new Float32Array((past + 64) * SAMPLES_PER_FRAME);
    this.length = past * SAMPLES_PER_FRAME;
    this.numSamples = 0;
    this.numEncoded = 0;
    this.limit = Infinity;
    this.tokens = [];
  }

  /** Append samples; they are encoded by `step`. */
  push(samples) {
    if (this.length + samples.length > this.buffer.length) {
      const larger = new Float32Array(2 * (this.length + samples.length));
      larger.set(this.buffer.subarray(0, this.length));
      this.buffer = larger;
    }
    this.buffer.set(samples, this.length);
    this.length += samples.length;
    this.numSamples += samples.length;
  }

  /** End the sound: its last frames are complete after the next steps. */
  end() {
    this.limit = Math.ceil(this.numSamples / SAMPLES_PER_FRAME);
    const { past, hop, ahead } = this.timing;
    const windows = Math.ceil((this.limit - this.numEncoded) / hop);
    const wanted = (past + windows * hop + ahead) * SAMPLES_PER_FRAME;
    const silence = wanted - this.length;
    if (windows > 0 && silence > 0) this.push(new Float32Array(silence));
  }

  /** Frames before, kept and after, of the largest window that has been heard; null for none. */
  layout() {
    const { past, ahead, hops } = this.timing;
    const whole = Math.floor(this.length / SAMPLES_PER_FRAME) - past - ahead;
    const hop = hops.find((size) => size <= whole);
    return hop && this.numEncoded < this.limit ? { past, hop, ahead } : null;
  }

  /** Encode one window if it has been heard; returns the tokens that are complete by that. */
  step() {
    const layout = this.layout();
    if (!layout) return [];
    const { past, hop, ahead } = layout;
    const window = this.buffer.slice(0, (past + hop + ahead) * SAMPLES_PER_FRAME);
    const gain = this.levelOf(window, layout);
    for (let i = 0; i < window.length; i++) window[i] *= gain;
    // The gate looks a little ahead, and so does the encoder.
    const heard = this.numEncoded + hop + this.timing.gateAhead;
    for (let frame = this.features.numPowers; frame < heard; frame++) {
      const at = (past + frame - this.numEncoded) * SAMPLES_PER_FRAME;
      this.features.pushPower(framePower(window, at));
    }
    const rows = this.speech.whisper.encode(window, layout);
    const count = Math.min(hop, this.limit - this.numEncoded);
    const width = rows.length / hop;
    for (let k = 0; k < count; k++) this.features.pushRow(rows.slice(k * width, (k + 1) * width));
    this.numEncoded += hop;
    this.buffer.copyWithin(0, hop * SAMPLES_PER_FRAME, this.length);
    this.length -= hop * SAMPLES_PER_FRAME;
    if (this.numEncoded >= this.limit) this.features.ended = true;
    return this.takeTokens();
  }

  takeTokens() {
    const found = [];
    for (let rows = this.features.window(); rows; rows = this.features.window()) {
      found.push(this.speech.token(rows));
    }
    return found;
  }

  /** The gain of a window, after a look at the samples that it is first to see. */
  levelOf(window, { past, hop }) {
    if (this.fixedGain !== null) return Math.fround(this.fixedGain);
    const first = this.numEncoded ? window.length - hop * SAMPLES_PER_FRAME : past * SAMPLES_PER_FRAME;
    this.gain.push(window.subarray(first));
    return Math.fround(this.gain.value);
  }
}
