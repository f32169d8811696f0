// Runs the browser's run-time under node, without pictures: what tests/test_web_runtime.py compares.
// Arguments: folder of the client, folder of the kernels, working folder with job.json.

import fs from "node:fs";
import path from "node:path";

const [client, native, folder] = process.argv.slice(2);
const script = (name) => import(path.join(client, `${name}.mjs`));
const { Kernels } = await script("kernels");
const { PackedTalker } = await script("container");
const { Speech } = await script("speech");
const { SpeechStream, FILE_TIMING, LIVE_TIMING } = await script("stream");
const { Head } = await script("head");
const { Motion } = await script("motion");
const { speechGain } = await script("loudness");
const { StreamResampler, mixed } = await script("resampler");
const { numFramesOf, SAMPLES_PER_FRAME } = await script("timebase");

const read = (name) => {
  const bytes = fs.readFileSync(path.join(folder, name));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
};
const floats = (name) => new Float32Array(read(name));
const write = (name, values) =>
  fs.writeFileSync(path.join(folder, name), Buffer.from(values.buffer, values.byteOffset, values.byteLength));
const joined = (rows) => {
  const all = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  rows.reduce((at, row) => (all.set(row, at), at + row.length), 0);
  return all;
};
const kernel = (name) => fs.readFileSync(path.join(native, name));

const job = JSON.parse(fs.readFileSync(path.join(folder, "job.json")));

const tasks = {
  /** Features, audio tokens and frames of a sound. */
  async drive() {
    const talker = await PackedTalker.read(read("talker.gtweb"));
    const plain = kernel("kernels.wasm");
    const relaxed = job.relaxed ? kernel("kernels-relaxed.wasm") : plain;
    const kernels = await Kernels.start({ plain, relaxed });
    const speech = new Speech(kernels, talker);
    const head = new Head(kernels, talker);
    const motion = new Motion(talker);
    const samples = floats("samples.f32");
    const encode = speech.whisper.encode.bind(speech.whisper);
    const rows = [];
    speech.whisper.encode = (window, layout) => {
      rows.push(encode(window, layout));
      return rows.at(-1);
    };
    const whole = new Float32Array(numFramesOf(samples.length) * SAMPLES_PER_FRAME);
    whole.set(samples.subarray(0, whole.length));
    const live = job.live;
    const stream = new SpeechStream(
      speech, live ? LIVE_TIMING : FILE_TIMING, live ? null : speechGain(samples)
    );
    const tokens = [];
    const drain = () => {
      for (let encoded = -1; encoded !== stream.numEncoded; ) {
        encoded = stream.numEncoded;
        tokens.push(...stream.step());
      }
    };
    for (let at = 0; at < whole.length; at += 1000) {
      stream.push(whole.slice(at, at + 1000));
      drain();
    }
    stream.end();
    drain();
    write("rows.f32", joined(rows));
    write("tokens.f32", joined(tokens));
    const { size } = head.sizes;
    const behind = new Uint8Array(read("behind.u8"));
    const bytes = 4 * size * size;
    const [from, to] = [kernels.bytes(bytes), kernels.bytes(bytes)];
    const scratch = kernels.floats(kernels.call.raster_scratch(size, size));
    const pictures = new Uint8Array(bytes * job.frames.length);
    job.frames.forEach((place, index) => {
      const frame = motion.trackFrame(place);
      const pose = motion.turned(frame, job.turn);
      head.deform(tokens[place], motion.eyeOf(frame), job.blink ? motion.closure(place) : null, pose);
      const count = head.project(pose, size);
      const memory = new Uint8Array(kernels.call.memory.buffer);
      memory.set(behind.subarray(bytes * index, bytes * (index + 1)), from);
      kernels.call.raster(count, head.splats, size, size, from, scratch, to);
      pictures.set(new Uint8Array(kernels.call.memory.buffer, to, bytes), bytes * index);
    });
    write("pictures.u8", pictures);
    return {
      relaxed: kernels.isRelaxed,
      numTokens: tokens.length,
      closures: job.places.map((place) => motion.closure(place)),
      frames: job.places.map((place) => motion.trackFrame(place)),
      range: motion.range,
    };
  },

  /** A stream at another rate, in pieces. */
  async resample() {
    const resampler = new StreamResampler(job.rate);
    const samples = floats("samples.f32");
    const ready = [];
    for (let at = 0; at < samples.length; at += 441) ready.push(resampler.push(samples.slice(at, at + 441)));
    write("resampled.f32", joined(ready));
    return {};
  },

  /** Levels of sounds, and mixed channels. */
  async levels() {
    const channels = job.channels.map((values) => Float32Array.from(values));
    return { gain: speechGain(floats("samples.f32")), mixed: Array.from(mixed(channels)) };
  },

  /** What is refused, and how. */
  async refuse() {
    try {
      await PackedTalker.read(read("talker.gtweb")).then((talker) => talker.part("background.webp"));
      return { message: null };
    } catch (error) {
      return { message: error.message };
    }
  },
};

console.log(JSON.stringify(await tasks[job.task]()));
