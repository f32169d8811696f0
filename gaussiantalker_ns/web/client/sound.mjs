/** Sound of files and microphones, by the browser's audio clock. */

import { mixed, StreamResampler } from "./resampler.mjs";
import { FPS, SAMPLE_RATE_HZ } from "./timebase.mjs";

/** Longest file that is decoded at once; ten minutes of stereo take 230 MB. */
const MOST_SECONDS = 600;

const MOST_BYTES = 250e6;
const START_S = 0.06;

/** Samples of the microphone that are sent at a time: ten milliseconds. */
const CHUNK_S = 0.01;

const WORKLET = `registerProcessor("tap", class extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.chunk = new Float32Array(processorOptions.chunk);
    this.count = 0;
  }
  process([channels]) {
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.chunk[this.count++] = sum / channels.length;
      if (this.count === this.chunk.length) {
        this.port.postMessage(this.chunk.slice());
        this.count = 0;
      }
    }
    return true;
  }
});`;

/** Decodes a sound for the ear and for the encoder, and plays it. */
export class SoundPlayer {
  constructor() {
    this.isPlaying = false;
    this.ended = new Promise((resolve) => (this.end = resolve));
    this.context = new AudioContext();
  }

  /**
   * Decode a sound.
   * @returns {Promise<Float32Array>} Mono samples at 16 kHz.
   */
  async decode(sound) {
    this.buffer = sound instanceof AudioBuffer ? sound : await this.read(sound);
    const { duration, numberOfChannels } = this.buffer;
    if (duration > MOST_SECONDS) throw tooLong(duration);
    const length = Math.max(Math.ceil(duration * SAMPLE_RATE_HZ), 1);
    const offline = new OfflineAudioContext(numberOfChannels, length, SAMPLE_RATE_HZ);
    const source = offline.createBufferSource();
    source.buffer = this.buffer;
    source.connect(offline.destination);
    source.start();
    const done = await offline.startRendering();
    const channels = Array.from({ length: numberOfChannels }, (_, k) => done.getChannelData(k));
    return mixed(channels).slice();
  }

  async read(sound) {
    const blob = sound instanceof Blob ? sound : new Blob([sound]);
    if (blob.size > MOST_BYTES) throw tooLong(Infinity);
    // Long files are told by their headers: decoded, two hours would take gigabytes.
    const seconds = await durationOf(blob);
    if (seconds > MOST_SECONDS) throw tooLong(seconds);
    const bytes = await blob.arrayBuffer();
    try {
      return await this.context.decodeAudioData(bytes);
    } catch {
      throw new Error(
        "This file cannot be read as sound; expected a whole wav, mp3, m4a, ogg or flac. It may be" +
          " cut or of another kind: export it again."
      );
    }
  }

  async play() {
    await this.context.resume();
    const source = this.context.createBufferSource();
    source.buffer = this.buffer;
    source.connect(this.context.destination);
    source.onended = () => this.end();
    this.start = this.context.currentTime + START_S;
    source.start(this.start);
    this.isPlaying = true;
  }

  /** Number of the frame that is heard now; negative before the first one. */
  frame() {
    const late = this.context.outputLatency || this.context.baseLatency || 0;
    return Math.floor((this.context.currentTime - late - this.start) * FPS);
  }

  close() {
    this.isPlaying = false;
    this.end();
    this.context.close().catch(() => {});
  }
}

function tooLong(seconds) {
  const found = Number.isFinite(seconds) ? `${Math.round(seconds / 60)} minutes` : "very";
  return new Error(
    `This sound is ${found} long; expected at most ${MOST_SECONDS / 60} minutes. Cut it into` +
      " pieces, or make a video with `gaussiantalker drive`."
  );
}

/** Length of a sound by its headers, in seconds; 0 where they do not say. */
function durationOf(blob) {
  return new Promise((resolve) => {
    const probe = new Audio();
    const url = URL.createObjectURL(blob);
    const finish = (seconds) => {
      clearTimeout(timer);
      URL.revokeObjectURL(url);
      resolve(Number.isFinite(seconds) ? seconds : 0);
    };
    const timer = setTimeout(() => finish(0), 3000);
    probe.preload = "metadata";
    probe.onloadedmetadata = () => finish(probe.duration);
    probe.onerror = () => finish(0);
    probe.src = url;
  });
}

/** Hands on what a microphone hears, at 16 kHz. */
export class Microphone {
  async open(stream, onsamples) {
    this.onlost = () => {};
    this.stream = stream ?? (await ask());
    this.isOwn = !stream;
    this.context = new AudioContext({ latencyHint: "interactive" });
    await this.context.resume();
    // Chromium does not load a worklet from a blob in a page that was opened as a file.
    await this.context.audioWorklet.addModule(`data:text/javascript;base64,${btoa(WORKLET)}`);
    const { sampleRate } = this.context;
    const resampler = new StreamResampler(sampleRate);
    const options = { processorOptions: { chunk: Math.round(sampleRate * CHUNK_S) } };
    const tap = new AudioWorkletNode(this.context, "tap", options);
    tap.port.onmessage = ({ data }) => {
      const samples = resampler.push(data);
      if (samples.length) onsamples(samples);
    };
    this.context.createMediaStreamSource(this.stream).connect(tap);
    for (const track of this.stream.getAudioTracks()) {
      track.addEventListener("ended", () => this.onlost());
    }
  }

  close() {
    this.onlost = () => {};
    if (this.isOwn) this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close().catch(() => {});
  }
}

async function ask() {
  if (!navigator.mediaDevices) {
    throw new Error("This page may not use a microphone; expected https, localhost or a file.");
  }
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The microphone was refused; allow it in the browser's address bar.",
      NotFoundError: "There is no microphone; connect one and try again.",
      NotReadableError: "The microphone is in use by another program; close that first.",
    };
    throw new Error(reasons[error.name] ?? `The microphone cannot be used (${error.message}).`);
  }
}
