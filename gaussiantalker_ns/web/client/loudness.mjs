/** Loudness of speech and silence; audio/loudness.py and audio/silence.py have the reasons. */

import { clamp, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME } from "./timebase.mjs";

const power = (dbfs) => 10 ** (dbfs / 10);
const TARGET = power(-23);
const ACTIVE_RANGE = power(-25);
const SILENCE = power(-60);
const MAX_GAIN = 30;
const WINDOW_SAMPLES = 0.4 * SAMPLE_RATE_HZ;
const OPEN_DBFS = -45;
const SHUT_DBFS = -55;

/** Frames on both sides over which the level of a frame is taken. */
export const GATE_RADIUS = 2;

function meanSquare(samples, first, stop) {
  let sum = 0;
  for (let i = first; i < stop; i++) sum += samples[i] * samples[i];
  return sum / Math.max(stop - first, 1);
}

/** The factor that brings active speech to -23 dBFS; 1 if there is only silence. */
export function speechGain(samples) {
  const powers = [];
  for (let at = 0; at + WINDOW_SAMPLES <= samples.length; at += WINDOW_SAMPLES) {
    powers.push(meanSquare(samples, at, at + WINDOW_SAMPLES));
  }
  if (!powers.length && samples.length) powers.push(meanSquare(samples, 0, samples.length));
  const most = powers.reduce((a, b) => Math.max(a, b), 0);
  if (most <= SILENCE) return 1;
  const active = powers.filter((value) => value >= most * ACTIVE_RANGE);
  const mean = active.reduce((a, b) => a + b, 0) / active.length;
  return Math.min(Math.sqrt(TARGET / mean), MAX_GAIN);
}

/** The same for a stream, following it slowly. */
export class RunningGain {
  constructor(memorySeconds = 10) {
    this.rate = WINDOW_SAMPLES / SAMPLE_RATE_HZ / memorySeconds;
    this.active = TARGET;
    this.loudest = 0;
    this.sum = 0;
    this.count = 0;
  }

  get value() {
    return Math.min(Math.sqrt(TARGET / this.active), MAX_GAIN);
  }

  push(samples) {
    for (const sample of samples) {
      this.sum += sample * sample;
      if (++this.count === WINDOW_SAMPLES) {
        this.follow(this.sum / WINDOW_SAMPLES);
        this.sum = this.count = 0;
      }
    }
  }

  follow(level) {
    // The loudest level fades, so that one bang does not make all later speech inactive.
    this.loudest = Math.max(level, this.loudest * (1 - this.rate));
    if (level > SILENCE && level >= this.loudest * ACTIVE_RANGE) {
      this.active += this.rate * (level - this.active);
    }
  }
}

/** Mean power of a frame that begins at a sample. */
export const framePower = (samples, first) =>
  meanSquare(samples, first, first + SAMPLES_PER_FRAME);

/** How silent a frame is, 0 speech to 1 silence, by the mean power around it. */
export function silenceFraction(meanPower) {
  const level = 10 * Math.log10(Math.max(meanPower, 1e-12));
  return clamp((OPEN_DBFS - level) / (OPEN_DBFS - SHUT_DBFS), 0, 1);
}
