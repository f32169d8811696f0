/** The worker: hears, deforms and paints; `talker.mjs` sends it messages. */

import { PackedTalker } from "./container.mjs";
import { Head } from "./head.mjs";
import { Kernels } from "./kernels.mjs";
import { speechGain } from "./loudness.mjs";
import { drawMark } from "./mark.mjs";
import { Motion } from "./motion.mjs";
import { CpuPainter, GpuPainter, hasGpu } from "./painters.mjs";
import { Pictures } from "./pictures.mjs";
import { Speech } from "./speech.mjs";
import { FILE_TIMING, LIVE_TIMING, SpeechStream } from "./stream.mjs";
import { FPS, numFramesOf, SAMPLES_PER_FRAME } from "./timebase.mjs";

const FRAME_MS = 1000 / FPS;

/** Tokens before the frame that is shown with which encoding may take its time. */
const COMFORT = 2 * FPS;

/** Pause between windows then: half of what a window brings. */
const PAUSE_MS = 160;

class Worker {
  async start({ pack, modules, options }) {
    const [talker, kernels] = await Promise.all([PackedTalker.read(pack), Kernels.start(modules)]);
    this.options = options;
    this.kernels = kernels;
    this.pictures = await Pictures.read(talker);
    this.speech = new Speech(kernels, talker);
    this.head = new Head(kernels, talker);
    this.motion = new Motion(talker);
    this.size = talker.header.head.size;
    this.turn = null;
    this.closure = null;
    this.sound = null;
    this.live = null;
    return {
      about: talker.header.about,
      range: this.motion.range,
      size: this.size,
      relaxed: kernels.isRelaxed,
      trackFrames: talker.header.motion.num_frames,
    };
  }

  async attach({ canvas, size, renderer }) {
    canvas.width = canvas.height = size || this.size;
    const gpu = renderer === "webgl2" || (renderer !== "wasm" && hasGpu(false));
    if (renderer === "webgl2" && !hasGpu(true)) {
      throw new Error("This browser has no WebGL2 with half floats; expected it. Ask for `auto`.");
    }
    this.painter = gpu
      ? new GpuPainter(canvas, this.head.count)
      : new CpuPainter(canvas, this.kernels);
    const mark = this.options.mark ? drawMark(this.options.mark, canvas.width) : null;
    this.painter.show({ background: this.pictures.background, mark });
    this.canvasSize = canvas.width;
    return { renderer: this.painter.name, size: this.canvasSize };
  }

  /** Begin a sound of known length; its tokens are made in steps, as long as no frame waits. */
  speak({ samples, gain }) {
    const numFrames = numFramesOf(samples.length);
    const whole = new Float32Array(numFrames * SAMPLES_PER_FRAME);
    whole.set(samples.subarray(0, whole.length));
    const stream = new SpeechStream(this.speech, FILE_TIMING, gain ?? speechGain(samples));
    stream.push(whole);
    stream.end();
    this.live = null;
    this.sound = { stream, tokens: [], numFrames, shown: null };
    this.encodeLater(this.sound);
    return { numFrames };
  }

  /** Encode one window, then let messages in between; frames go first where there is time. */
  encodeLater(sound) {
    const isAhead = sound.shown !== null && sound.tokens.length > sound.shown + COMFORT;
    setTimeout(() => {
      if (this.sound !== sound) return;
      sound.tokens.push(...sound.stream.step());
      const ready = sound.tokens.length;
      self.postMessage({ event: "encoded", ready, numFrames: sound.numFrames });
      if (ready < sound.numFrames) this.encodeLater(sound);
    }, isAhead ? PAUSE_MS : 0);
  }

  quiet() {
    this.sound = this.live = null;
  }

  listen({ place }) {
    this.sound = null;
    const stream = new SpeechStream(this.speech, LIVE_TIMING, null);
    this.live = { stream, place, heard: [], numFrames: 0, newest: -1, isWaiting: false };
  }

  /** Take sound of the microphone; what has come by the next turn is encoded at once. */
  hear({ samples, time }) {
    const { live } = this;
    if (!live) return;
    live.stream.push(samples);
    const total = Math.floor(live.stream.numSamples / SAMPLES_PER_FRAME);
    while (live.heard.length < total) live.heard.push(time);
    if (live.isWaiting || !live.stream.layout()) return;
    live.isWaiting = true;
    setTimeout(() => this.follow(live), 0);
  }

  /** Encode what was heard, and draw its last frames: one now, one when it is its turn. */
  follow(live) {
    live.isWaiting = false;
    if (this.live !== live) return;
    const tokens = [];
    while (live.stream.layout()) tokens.push(...live.stream.step());
    const first = live.numFrames;
    live.numFrames += tokens.length;
    const kept = Math.min(tokens.length, LIVE_TIMING.hop);
    for (let k = 0; k < kept; k++) {
      const order = tokens.length - kept + k;
      const draw = () => this.drawLive(live, tokens[order], first + order);
      if (k) setTimeout(draw, k * FRAME_MS);
      else draw();
    }
  }

  async drawLive(live, token, frame) {
    // On a slow machine a later one may have been drawn meanwhile.
    if (this.live !== live || frame <= live.newest) return;
    live.newest = frame;
    await this.draw(token, live.place + frame);
    self.postMessage({ event: "drawn", frame, heard: live.heard[frame] });
  }

  /** Draw a frame of the sound that is played, or of silence. */
  async frame({ index, place }) {
    const token = this.sound && index !== null ? this.sound.tokens[index] : null;
    if (this.sound && index !== null) this.sound.shown = index;
    // Where encoding is late the picture waits for it, and the sound goes on.
    if (this.sound && index !== null && !token) return { drawn: false };
    await this.draw(token ?? this.speech.ofSilence, place);
    return { drawn: true };
  }

  async draw(token, place) {
    if (!this.painter) return;
    const frame = this.motion.trackFrame(place);
    const torso = await this.pictures.torso(frame);
    this.pictures.prepare(this.motion, place);
    const pose = this.motion.turned(frame, this.turn);
    const closure = this.closure ?? this.motion.closure(place);
    this.head.deform(token, this.motion.eyeOf(frame), closure, pose);
    const count = this.head.project(pose, this.canvasSize);
    this.painter.paint(this.kernels, this.head.splats, count, torso);
  }

  pose({ turn }) {
    this.turn = turn;
  }

  lips({ gain }) {
    this.speech.lipGain = gain;
  }

  /** A frame as pixels, for whoever wants pictures. */
  async picture({ index, place }) {
    await this.frame({ index, place });
    return { pixels: this.painter.pixels(), size: this.canvasSize };
  }
}

const worker = new Worker();

const CALLS = new Set([
  "start", "attach", "speak", "quiet", "listen", "hear", "frame", "pose", "lips", "picture",
]);

self.onmessage = async ({ data: { call, id, values } }) => {
  try {
    if (!CALLS.has(call)) throw new Error(`The worker knows no ${call}.`);
    const answer = await worker[call](values);
    if (id !== undefined) self.postMessage({ id, answer });
  } catch (error) {
    self.postMessage({ id, error: error.message ?? String(error) });
  }
};
