/**
 * A talker in a page.
 *
 *   const talker = await load("me.gtweb");
 *   talker.attach(canvas);
 *   await talker.speak(await (await fetch("speech.wav")).arrayBuffer());
 */

import { Microphone, SoundPlayer } from "./sound.mjs";
import { FPS } from "./timebase.mjs";

/** What is written into every picture. */
const MARK = "Synthetic";

/** Frames that are on their way to the worker, at most one more. */
const MOST_PENDING = 2;

/** Seconds of tokens that have to be there before the sound begins. */
const HEAD_START_S = 1.2;

/**
 * Load a packed talker.
 * @param {string|URL|ArrayBuffer} source Its address, or its bytes.
 * @param {object} [options]
 * @param {string|null} [options.mark] Words in the lower left corner of every picture; null only
 *   where the page says otherwise that the pictures are synthetic.
 * @param {() => Worker} [options.worker] Makes the worker; by default worker.js beside this module.
 * @param {() => Promise<{plain: ArrayBuffer, relaxed: ArrayBuffer}>} [options.modules] Gives the
 *   WebAssembly; by default the two files beside this module.
 * @returns {Promise<Talker>}
 */
export async function load(source, options = {}) {
  for (const name of ["OffscreenCanvas", "DecompressionStream", "Worker", "WebAssembly"]) {
    if (!(name in globalThis)) {
      throw new Error(
        `This browser has no ${name}; expected one of 2023 or newer (Chrome 94, Firefox 113,` +
          " Safari 16.4). Update it."
      );
    }
  }
  const beside = (name) => new URL(name, import.meta.url);
  const modules = options.modules ?? (async () => ({
    plain: await bytesOf(beside("kernels.wasm")),
    relaxed: await bytesOf(beside("kernels-relaxed.wasm")),
  }));
  const pack = source instanceof ArrayBuffer ? source : await bytesOf(source);
  const worker = (options.worker ?? (() => new Worker(beside("worker.js"))))();
  const calls = new Calls(worker);
  const mark = options.mark === undefined ? MARK : options.mark;
  const values = { pack, modules: await modules(), options: { mark } };
  return new Talker(calls, await calls.ask("start", values, [pack]));
}

async function bytesOf(url) {
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`${url} cannot be loaded (${response.status}); expected a file there.`);
  }
  return response.arrayBuffer();
}

/** Calls of the worker, and their answers. */
class Calls {
  constructor(worker) {
    this.worker = worker;
    this.waiting = new Map();
    this.number = 0;
    this.onevent = () => {};
    worker.onmessage = ({ data }) => this.take(data);
    worker.onerror = (event) => this.fail(event.message ?? "The worker could not start.");
  }

  take(data) {
    const found = this.waiting.get(data.id);
    this.waiting.delete(data.id);
    if (data.error && !found) this.onevent({ event: "error", message: data.error });
    else if (data.error) found.reject(new Error(data.error));
    else if (found) found.resolve(data.answer);
    else this.onevent(data);
  }

  fail(message) {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
    this.onevent({ event: "error", message });
  }

  ask(call, values = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = ++this.number;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ call, id, values }, transfer);
    });
  }

  tell(call, values = {}, transfer = []) {
    this.worker.postMessage({ call, values }, transfer);
  }
}

/**
 * A loaded talker.
 *
 * Events: `state` (detail: idle, loading, speaking, listening), `error` (detail: a sentence),
 * `drawn` (detail: frame numbers and, for the microphone, the delay in ms).
 */
export class Talker extends EventTarget {
  constructor(calls, info) {
    super();
    this.calls = calls;
    /** Consent, licence and provenance. */
    this.about = info.about;
    /** Degrees between which the head may be turned: `yaw` and `pitch`. */
    this.range = info.range;
    /** Side of the pictures as trained. */
    this.size = info.size;
    this.info = info;
    this.state = "idle";
    this.player = null;
    this.microphone = null;
    this.shown = null;
    this.pending = 0;
    this.skipped = 0;
    this.origin = performance.now();
    calls.onevent = (data) => this.take(data);
  }

  /**
   * Show the talker in a canvas, which belongs to it from then on.
   * @param {HTMLCanvasElement} canvas
   * @param {{size?: number, renderer?: "auto"|"webgl2"|"wasm"}} [options]
   */
  async attach(canvas, { size = 0, renderer = "auto" } = {}) {
    const offscreen = canvas.transferControlToOffscreen();
    const values = { canvas: offscreen, size, renderer };
    const found = await this.calls.ask("attach", values, [offscreen]);
    const tick = () => {
      this.tick();
      this.request = requestAnimationFrame(tick);
    };
    tick();
    return found;
  }

  /**
   * Speak a sound, and play it in step.
   * @param {ArrayBuffer|Blob|AudioBuffer} sound A file's bytes, or decoded sound.
   * @returns {Promise<{frames: number, shown: number}>} When it has ended or was stopped.
   */
  async speak(sound) {
    this.stop();
    this.setState("loading");
    const player = (this.player = new SoundPlayer());
    try {
      const samples = await player.decode(sound);
      if (this.player !== player) return { frames: 0, shown: 0 };
      const { numFrames } = await this.calls.ask("speak", { samples }, [samples.buffer]);
      player.numFrames = numFrames;
      player.shown = new Set();
      await this.until(() => this.ready >= Math.min(numFrames, HEAD_START_S * FPS) || this.player !== player);
      if (this.player !== player) return { frames: numFrames, shown: 0 };
      player.place = this.place();
      await player.play();
      this.setState("speaking");
      await player.ended;
      return { frames: numFrames, shown: player.shown.size };
    } finally {
      if (this.player === player) this.stop();
    }
  }

  /**
   * Speak what a microphone hears, until `stop`.
   * @param {MediaStream} [stream] By default the user is asked for a microphone.
   */
  async listen(stream) {
    this.stop();
    this.setState("loading");
    const microphone = (this.microphone = new Microphone());
    try {
      this.calls.tell("listen", { place: this.place() });
      await microphone.open(stream, (samples) => {
        this.calls.tell("hear", { samples, time: performance.timeOrigin + performance.now() }, [samples.buffer]);
      });
      microphone.onlost = () => this.report("The microphone was taken away. Choose another one.");
      if (this.microphone === microphone) this.setState("listening");
    } catch (error) {
      if (this.microphone === microphone) this.stop();
      throw error;
    }
  }

  /** End speech and microphone; the head goes on moving. */
  stop() {
    const { player, microphone } = this;
    const place = this.place();
    this.player = this.microphone = null;
    player?.close();
    microphone?.close();
    this.calls.tell("quiet");
    this.ready = 0;
    this.shown = null;
    this.origin = performance.now() - (place * 1000) / FPS;
    this.setState("idle");
  }

  /**
   * Turn the head.
   * @param {{yaw?: number, pitch?: number}|null} turn Degrees to the right of the picture and
   *   upwards, kept within `range`; null gives the recorded motion back.
   */
  pose(turn) {
    this.calls.tell("pose", { turn });
  }

  /** How far the lips move, from 0 to 3; 1 is as far as in the training. */
  lips(gain) {
    this.calls.tell("lips", { gain: Math.min(Math.max(gain, 0), 3) });
  }

  /** A frame as a picture. `index` is a frame of the sound, null for silence. */
  async picture({ index = null, place = 0 } = {}) {
    const { pixels, size } = await this.calls.ask("picture", { index, place });
    return new ImageData(pixels, size, size);
  }

  /** End the talker and free what it took. */
  close() {
    this.stop();
    cancelAnimationFrame(this.request);
    this.calls.worker.terminate();
  }

  /** Frames of the motion since the start. */
  place() {
    if (this.player?.isPlaying) return this.player.place + Math.max(this.player.frame(), 0);
    return Math.floor(((performance.now() - this.origin) * FPS) / 1000);
  }

  tick() {
    if (this.state === "listening") return;
    const { player } = this;
    const index = player?.isPlaying ? player.frame() : null;
    if (index !== null && (index < 0 || index >= player.numFrames)) return;
    const place = this.place();
    // A few frames may wait; a slow machine leaves some out and goes on with the newest.
    if (place === this.shown || this.pending > MOST_PENDING) return;
    this.shown = place;
    this.pending++;
    this.calls.ask("frame", { index, place }).then(
      ({ drawn }) => {
        this.pending--;
        if (drawn && index !== null) player.shown.add(index);
        this.emit("drawn", { index, place });
      },
      (error) => {
        this.pending--;
        this.report(error.message);
      }
    );
  }

  take(data) {
    if (data.event === "encoded") {
      this.ready = data.ready;
      this.wake?.();
    } else if (data.event === "drawn") {
      const now = performance.timeOrigin + performance.now();
      this.emit("drawn", { index: data.frame, delay: now - data.heard });
    } else if (data.event === "error") {
      this.report(data.message);
    }
  }

  until(condition) {
    return new Promise((resolve) => {
      this.wake = () => condition() && resolve();
      this.wake();
    });
  }

  setState(state) {
    this.wake?.();
    if (state === this.state) return;
    this.state = state;
    this.emit("state", state);
  }

  report(message) {
    this.emit("error", message);
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
