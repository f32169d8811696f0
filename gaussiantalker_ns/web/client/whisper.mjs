/** Whisper's first blocks on windows of sound; audio/encoders/whisper.py has them in torch. */

import { ACTIVATIONS } from "./kernels.mjs";
import { SAMPLES_PER_FRAME } from "./timebase.mjs";

const FFT = 400;
const BINS = 208;
const NUM_MELS = 80;
const TOKENS_PER_FRAME = 2;

/** Frames before, kept and after, of the training and of files. */
export const FILE_LAYOUT = { past: 50, hop: 8, ahead: 5 };

/** The encoder, for windows of at most so many frames. */
export class Whisper {
  constructor(kernels, talker, mostFrames = FILE_LAYOUT.past + FILE_LAYOUT.hop + FILE_LAYOUT.ahead) {
    const { blocks, heads } = talker.header.speech;
    this.kernels = kernels;
    this.heads = heads;
    this.width = talker.shape("whisper.conv2.weight")[1];
    this.wide = talker.shape("whisper.0.widen.weight")[1];
    const scratch = kernels.floats(this.width * this.wide);
    const row = (name) => kernels.putRow(talker.tensor(`whisper.${name}`));
    const panels = (name) => {
      const [depth, columns] = talker.shape(`whisper.${name}`);
      return kernels.pack(talker.tensor(`whisper.${name}`), depth, columns, scratch);
    };
    this.conv1 = { panels: panels("conv1.weight"), bias: row("conv1.bias") };
    this.conv2 = { panels: panels("conv2.weight"), bias: row("conv2.bias") };
    this.blocks = Array.from({ length: blocks }, (_, block) => {
      const part = (name) => ({
        panels: panels(`${block}.${name}.weight`),
        bias: talker.has(`whisper.${block}.${name}.bias`) ? row(`${block}.${name}.bias`) : 0,
      });
      const norm = (name) => ({
        weight: row(`${block}.${name}.weight`),
        bias: row(`${block}.${name}.bias`),
      });
      return {
        norm1: norm("norm1"), norm2: norm("norm2"), query: part("query"), key: part("key"),
        value: part("value"), out: part("out"), widen: part("widen"), narrow: part("narrow"),
      };
    });
    this.transform = fourier(kernels, talker);
    this.allocate(TOKENS_PER_FRAME * mostFrames, mostFrames * SAMPLES_PER_FRAME);
  }

  allocate(tokens, numSamples) {
    const { kernels, width, wide, heads } = this;
    const floats = (count) => kernels.floats(count);
    this.samples = floats(numSamples);
    this.mels = floats((2 * tokens + 2) * NUM_MELS);
    this.stem = floats((2 * tokens + 2) * width);
    for (const name of ["hidden", "normed", "queries", "keys", "values", "attended"]) {
      this[name] = floats(tokens * width);
    }
    this.widened = floats(tokens * wide);
    const sizes = [
      kernels.call.log_mel_scratch(numSamples),
      kernels.call.attend_scratch(tokens, tokens, width / heads),
    ];
    this.scratch = floats(Math.max(...sizes));
    this.positions = sinusoids(tokens, width);
  }

  /**
   * Features of the kept frames of one window.
   * @param {Float32Array} samples The window, levelled, at 16 kHz.
   * @param layout Frames before, kept and after.
   * @returns {Float32Array} Two rows of features a frame.
   */
  encode(samples, layout) {
    const { kernels, width } = this;
    const frames = layout.past + layout.hop + layout.ahead;
    const tokens = TOKENS_PER_FRAME * frames;
    kernels.view(this.samples, samples.length).set(samples);
    this.runStem(samples.length, tokens);
    for (const block of this.blocks) {
      const isLast = block === this.blocks.at(-1);
      // Of the last block only what is kept.
      const first = isLast ? TOKENS_PER_FRAME * layout.past : 0;
      this.runBlock(block, tokens, first, isLast ? TOKENS_PER_FRAME * layout.hop : tokens);
    }
    const kept = this.hidden + 4 * TOKENS_PER_FRAME * layout.past * width;
    return kernels.view(kept, TOKENS_PER_FRAME * layout.hop * width).slice();
  }

  /** Log-mel spectrum and two convolutions; the position of every token is added. */
  runStem(numSamples, tokens) {
    const { kernels, width, transform } = this;
    const call = kernels.call;
    const gelu = ACTIVATIONS.gelu;
    call.log_mel(
      this.samples, numSamples, transform.cosines, transform.sines, transform.filters,
      this.scratch, this.mels + 4 * NUM_MELS
    );
    kernels.view(this.mels + 4 * (2 * tokens + 1) * NUM_MELS, NUM_MELS).fill(0);
    call.multiply(
      2 * tokens, width, 3 * NUM_MELS, this.mels, NUM_MELS, this.conv1.panels, this.conv1.bias,
      this.stem + 4 * width, width, gelu, 0
    );
    call.multiply(
      tokens, width, 3 * width, this.stem, 2 * width, this.conv2.panels, this.conv2.bias,
      this.hidden, width, gelu, 0
    );
    const hidden = kernels.view(this.hidden, tokens * width);
    for (let i = 0; i < hidden.length; i++) hidden[i] += this.positions[i];
  }

  /** One transformer block; queries and what follows them only for some tokens. */
  runBlock(block, tokens, first, count) {
    const { kernels, width, wide, heads } = this;
    const { plain, gelu } = ACTIVATIONS;
    const product = (rows, columns, depth, from, part, to, activation, accumulate = 0) =>
      kernels.call.multiply(
        rows, columns, depth, from, depth, part.panels, part.bias, to, columns, activation,
        accumulate
      );
    const skip = 4 * first * width;
    const rows = this.hidden + skip;
    const norm = (count, from, { weight, bias }) =>
      kernels.call.layer_norm(count, width, from, weight, bias, this.normed);
    norm(tokens, this.hidden, block.norm1);
    product(count, width, width, this.normed + skip, block.query, this.queries, plain);
    product(tokens, width, width, this.normed, block.key, this.keys, plain);
    product(tokens, width, width, this.normed, block.value, this.values, plain);
    kernels.call.attend(
      count, tokens, heads, width / heads, this.queries, this.keys, this.values, this.attended,
      this.scratch
    );
    product(count, width, width, this.attended, block.out, rows, plain, 1);
    norm(count, rows, block.norm2);
    product(count, wide, width, this.normed, block.widen, this.widened, gelu);
    product(count, width, wide, this.widened, block.narrow, rows, plain, 1);
  }
}

/** Panels of the windowed transform, folded about the middle of the window, and mel filters. */
function fourier(kernels, talker) {
  const half = FFT / 2;
  const cosines = new Float32Array(half * BINS);
  const sines = new Float32Array(half * BINS);
  for (let n = 1; n <= half; n++) {
    const window = 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / FFT);
    for (let bin = 0; bin <= half; bin++) {
      const angle = (2 * Math.PI * ((n * bin) % FFT)) / FFT;
      cosines[(n - 1) * BINS + bin] = window * Math.cos(angle);
      if (n < half) sines[(n - 1) * BINS + bin] = window * Math.sin(angle);
    }
  }
  const filters = new Float32Array(BINS * NUM_MELS);
  filters.set(talker.tensor("whisper.mel.filters"));
  return {
    cosines: kernels.pack(cosines, half, BINS),
    sines: kernels.pack(sines, half, BINS),
    filters: kernels.pack(filters, BINS, NUM_MELS),
  };
}

/** Sinusoids of the positions, rounded where torch rounds. */
function sinusoids(tokens, width) {
  const half = width / 2;
  const values = new Float32Array(tokens * width);
  const step = Math.fround(-Math.log(10000) / (half - 1));
  for (let k = 0; k < half; k++) {
    const rate = Math.fround(Math.exp(Math.fround(step * k)));
    for (let t = 0; t < tokens; t++) {
      const angle = Math.fround(t * rate);
      values[t * width + k] = Math.sin(angle);
      values[t * width + half + k] = Math.cos(angle);
    }
  }
  return values;
}

