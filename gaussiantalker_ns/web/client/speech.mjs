/** Speech features to the audio token of a frame: articulation code or raw features. */

import { Sequence } from "./networks.mjs";
import { clamp } from "./timebase.mjs";
import { Whisper } from "./whisper.mjs";

/** The networks that hear; `token(rows)` takes the rows of features around a frame. */
export class Speech {
  constructor(kernels, talker) {
    const { speech, layers } = talker.header;
    this.kernels = kernels;
    this.code = speech.code;
    this.offsets = speech.offsets;
    this.lipGain = 1;
    this.mean = talker.tensor("audio.mean");
    this.std = talker.tensor("audio.std");
    const row = talker.tensor("audio.silence");
    this.silence = { row, length: row.length, known: speech.knows_silence };
    this.whisper = new Whisper(kernels, talker);
    this.numFrames = this.offsets[1] - this.offsets[0] + 1;
    this.members = layers.articulation.map(
      (member) => new Sequence(kernels, talker, member, this.numFrames)
    );
    this.audio = layers.audio ? new AudioToken(kernels, talker, this.code ? 1 : this.numFrames) : null;
    this.ofSilence = this.token(Array(this.numFrames).fill(row));
  }

  /** Audio token of raw rows of features, one for each frame of the context. */
  token(rows) {
    if (!this.audio) return new Float32Array(0);
    const standard = rows.map((row) => row.map((value, k) => (value - this.mean[k]) / this.std[k]));
    return this.audio.of(this.code ? [this.codeOf(standard)] : standard);
  }

  /** Articulation code of standardised rows: the mean of the networks, spread, within its range. */
  codeOf(rows) {
    const width = rows[0].length;
    const series = new Float32Array(rows.length * width);
    rows.forEach((row, k) => series.set(row, k * width));
    const [low, high] = this.code.range;
    const sum = new Float64Array(low.length);
    for (const member of this.members) {
      member.run(series, width);
      member.result(low.length).forEach((value, k) => (sum[k] += value / this.members.length));
    }
    const gain = this.lipGain * this.code.gain;
    return Float32Array.from(sum, (value, k) => clamp(value * gain, low[k], high[k]));
  }
}

/** Convolutions over each frame's rows, then temporal attention over the frames. */
class AudioToken {
  constructor(kernels, talker, numFrames) {
    const { window_net, frame_net, token_net, score, weigh } = talker.header.layers.audio;
    const sequence = (layers, rows) => new Sequence(kernels, talker, layers, rows);
    this.numFrames = numFrames;
    this.codeSize = talker.shape(`${frame_net.at(-1).weights}.weight`)[1];
    this.width = talker.shape(`${token_net.at(-1).weights}.weight`)[1];
    this.first = window_net[0] ?? frame_net[0];
    this.features = talker.shape(`${this.first.weights}.weight`)[0] / this.first.kernel;
    const items = talker.header.speech.code ? 1 : talker.shape("audio.mean")[0] / this.features;
    this.windowNet = window_net.length ? sequence(window_net, items) : null;
    this.frameNet = sequence(frame_net, 1);
    this.tokenNet = sequence(token_net, 1);
    this.scoreNet = score ? sequence(score, numFrames) : null;
    this.weighNet = weigh ? sequence(weigh, 1) : null;
  }

  of(rows) {
    const codes = rows.map((row) => this.frameCode(row));
    this.tokenNet.run(codes.length > 1 ? this.weighted(codes) : codes[0], this.codeSize);
    return this.tokenNet.result(this.width);
  }

  frameCode(row) {
    let found = row;
    if (this.windowNet) {
      this.windowNet.run(row, this.features);
      const { outRows, outStride } = this.windowNet;
      found = this.windowNet.result(outRows * outStride);
    }
    this.frameNet.run(found, found.length);
    return this.frameNet.result(this.codeSize);
  }

  /** Average of the frames' codes by the softmax of their scores. */
  weighted(codes) {
    const { codeSize, numFrames } = this;
    const series = new Float32Array(numFrames * codeSize);
    codes.forEach((code, k) => series.set(code, k * codeSize));
    this.scoreNet.run(series, codeSize);
    const scores = Float32Array.from(codes, (_, k) => this.scoreNet.result(1, k)[0]);
    this.weighNet.run(scores, numFrames);
    const weights = this.weighNet.result(numFrames);
    const most = Math.max(...weights);
    const shares = Array.from(weights, (value) => Math.exp(value - most));
    const total = shares.reduce((a, b) => a + b, 0);
    const mean = new Float32Array(codeSize);
    codes.forEach((code, k) => code.forEach((value, d) => (mean[d] += (value * shares[k]) / total)));
    return mean;
  }
}
