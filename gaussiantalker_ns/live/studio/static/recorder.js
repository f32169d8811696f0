// Camera and microphone: preview with a guide, level, countdown, and a recording sent as it is made.

import { announce, clock, el, errorLine, setText } from "./dom.js";
import { SCRIPT } from "./script.js";
import { PieceSender } from "./sender.js";

const TYPES = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
const BITS_PER_SECOND = 6_000_000;
const SLICE_MS = 1000;
const COUNTDOWN = 3;
const MOST_SECONDS = 180;
const GOOD_SECONDS = 40;
const QUIET = 0.02;
const LOUD = 0.95;

const SVG = "http://www.w3.org/2000/svg";

function guide() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 160 120");
  svg.setAttribute("class", "guide");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("preserveAspectRatio", "xMidYMid slice");
  const shade = document.createElementNS(SVG, "path");
  // The picture without an oval; drawn by the even-odd rule.
  shade.setAttribute("d", "M-200-200H400V400H-200Z M80 18a26 35 0 0 0 0 70a26 35 0 0 0 0-70Z");
  shade.setAttribute("class", "guide-shade");
  const oval = document.createElementNS(SVG, "ellipse");
  for (const [name, value] of Object.entries({ cx: 80, cy: 53, rx: 26, ry: 35 })) oval.setAttribute(name, value);
  oval.setAttribute("class", "guide-oval");
  svg.append(shade, oval);
  return svg;
}

export class Recorder {
  // `done()` is called when the recording is on the server and its user wants it.
  constructor(slug, choices, done) {
    this.slug = slug;
    this.choices = choices;
    this.done = done;
    this.chunks = [];
    this.stream = null;
    this.recorder = null;
    this.audio = null;
    this.timer = null;
    this.busyWithIt = false;
    this.node = this.build();
  }

  build() {
    this.preview = el("video", { playsinline: true, "aria-label": "Camera preview" });
    this.preview.muted = true;
    this.guide = guide();
    this.count = el("div", { class: "countdown", "aria-hidden": "true" });
    this.time = el("span", { class: "badge recording", hidden: true });
    this.cover = el("div", { class: "cover" }, el("p", {}, "The camera is off."));
    this.stage = el("div", { class: "stage" }, this.preview, this.guide, this.cover, this.count, this.time);
    this.level = el("meter", { id: "level", min: 0, max: 1, low: QUIET, high: LOUD, optimum: 0.4, value: 0 });
    this.levelHint = el("p", { class: "hint", id: "level-hint" }, "Speak a sentence to test the microphone.");
    this.cameras = el("select", { id: "camera", onchange: () => this.open() });
    this.microphones = el("select", { id: "microphone", onchange: () => this.open() });
    this.devices = el(
      "div",
      { class: "devices", hidden: true },
      el("div", { class: "field" }, el("label", { for: "camera" }, "Camera"), this.cameras),
      el("div", { class: "field" }, el("label", { for: "microphone" }, "Microphone"), this.microphones),
    );
    this.turnOn = el("button", { class: "primary", type: "button", onclick: () => this.open() }, "Turn on camera and microphone");
    this.start = el("button", { class: "primary", type: "button", hidden: true, onclick: () => this.countDown() }, "Start recording");
    this.stop = el("button", { class: "danger", type: "button", hidden: true, onclick: () => this.finish() }, "Stop recording");
    this.use = el("button", { class: "primary", type: "button", hidden: true, onclick: () => this.accept() }, "Use this recording");
    this.again = el("button", { type: "button", hidden: true, onclick: () => this.open() }, "Record again");
    this.error = errorLine();
    this.sentHint = el("p", { class: "hint" });
    this.reading = el(
      "section",
      { class: "reading", "aria-label": "Text to read", tabindex: 0 },
      SCRIPT.map((paragraph) => el("p", {}, paragraph)),
    );
    return el(
      "div",
      { class: "record" },
      el(
        "div",
        { class: "stack" },
        this.stage,
        el("div", { class: "level" }, el("label", { for: "level" }, "Microphone level"), this.level, this.levelHint),
        this.devices,
        el("div", { class: "row" }, this.turnOn, this.start, this.stop, this.use, this.again),
        this.error,
        this.sentHint,
      ),
      el("div", { class: "stack" }, el("h3", {}, "Read this aloud"), el("p", { class: "hint" }, "Calmly, looking into the camera as often as you can. It takes about a minute."), this.reading),
    );
  }

  show(...buttons) {
    for (const one of [this.turnOn, this.start, this.stop, this.use, this.again]) one.hidden = !buttons.includes(one);
    // Whoever works by the keyboard stays at the place where the next thing happens.
    if (document.activeElement === document.body || document.activeElement?.hidden) buttons[0]?.focus();
  }

  async open() {
    if (this.busyWithIt) return;
    setText(this.error, "");
    if (!navigator.mediaDevices || !window.MediaRecorder) {
      setText(this.error, "This browser gives no camera to this page; that needs https, or the address localhost. Upload a video instead.");
      return;
    }
    this.close();
    this.node.classList.remove("recorded");
    const chosen = (select) => (select.value ? { deviceId: { exact: select.value } } : {});
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 25, max: 30 }, ...chosen(this.cameras) },
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, ...chosen(this.microphones) },
      });
    } catch (error) {
      setText(this.error, `Camera and microphone cannot be used (${error.name}). Allow them for this page, and close other programs that use them.`);
      return;
    }
    this.preview.controls = false;
    this.preview.muted = true;
    this.preview.src = "";
    this.preview.srcObject = this.stream;
    this.stage.classList.add("live");
    this.guide.classList.remove("off");
    this.cover.hidden = true;
    await this.preview.play();
    await this.listDevices();
    this.listen();
    this.show(this.start);
    announce("Camera and microphone are on.");
  }

  async listDevices() {
    const found = await navigator.mediaDevices.enumerateDevices();
    const used = this.stream.getTracks().map((track) => track.getSettings().deviceId);
    for (const [select, kind] of [[this.cameras, "videoinput"], [this.microphones, "audioinput"]]) {
      const options = found.filter((one) => one.kind === kind);
      select.replaceChildren(...options.map((one, i) => el("option", { value: one.deviceId }, one.label || `Device ${i + 1}`)));
      select.value = used.find((id) => options.some((one) => one.deviceId === id)) ?? "";
    }
    this.devices.hidden = this.cameras.length < 2 && this.microphones.length < 2;
  }

  listen() {
    this.audio = new AudioContext();
    const analyser = this.audio.createAnalyser();
    analyser.fftSize = 2048;
    this.audio.createMediaStreamSource(this.stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let held = 0;
    const look = () => {
      if (!this.audio) return;
      analyser.getFloatTimeDomainData(samples);
      const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      held = Math.max(peak, held * 0.93);
      this.level.value = held;
      if (held >= LOUD) setText(this.levelHint, "Too loud: go away from the microphone a little.");
      else if (held < QUIET) setText(this.levelHint, "Nothing is heard: speak up, or choose another microphone.");
      else setText(this.levelHint, "The level is good.");
      requestAnimationFrame(look);
    };
    look();
  }

  countDown() {
    let left = COUNTDOWN;
    this.busyWithIt = true;
    this.show(this.stop);
    const tick = () => {
      if (!this.busyWithIt) return;
      setText(this.count, left > 0 ? String(left) : "");
      if (left === 0) this.record();
      else {
        announce(String(left));
        left -= 1;
        this.timer = setTimeout(tick, 1000);
      }
    };
    tick();
  }

  async record() {
    this.chunks = [];
    this.sender?.cancel();
    const type = TYPES.find((one) => MediaRecorder.isTypeSupported(one));
    this.sender = new PieceSender(this.slug, this.choices.piece_bytes, () => this.blob(), (sent) => {
      setText(this.sentHint, `${(sent / 1e6).toFixed(1)} MB are safe on the server.`);
    });
    try {
      await this.sender.begin(null, "recording", "recording");
    } catch (error) {
      this.fail(error);
      return;
    }
    this.recorder = new MediaRecorder(this.stream, { mimeType: type, videoBitsPerSecond: BITS_PER_SECOND });
    this.recorder.ondataavailable = (event) => {
      if (event.data.size === 0) return;
      this.chunks.push(event.data);
      this.sender.flush().catch((error) => this.fail(error));
    };
    this.recorder.start(SLICE_MS);
    this.node.classList.add("running");
    this.reading.focus({ preventScroll: true });
    const began = performance.now();
    this.time.hidden = false;
    const tick = () => {
      if (this.recorder?.state !== "recording") return;
      this.seconds = (performance.now() - began) / 1000;
      const enough = this.seconds >= GOOD_SECONDS ? ", enough" : "";
      setText(this.time, `Recording ${clock(this.seconds)}${enough}`);
      if (this.seconds >= MOST_SECONDS) this.finish();
      else this.timer = setTimeout(tick, 250);
    };
    tick();
    announce("Recording.");
  }

  blob() {
    return new Blob(this.chunks, { type: this.recorder?.mimeType });
  }

  async finish() {
    clearTimeout(this.timer);
    this.busyWithIt = false;
    setText(this.count, "");
    this.time.hidden = true;
    if (!this.recorder || this.recorder.state === "inactive") {
      this.show(this.start);
      return;
    }
    const stopped = new Promise((resolve) => this.recorder.addEventListener("stop", resolve, { once: true }));
    this.recorder.stop();
    await stopped;
    this.node.classList.replace("running", "recorded");
    this.close();
    this.guide.classList.add("off");
    this.preview.src = URL.createObjectURL(this.blob());
    this.preview.muted = false;
    this.preview.controls = true;
    if (this.seconds < this.choices.least_video_s) {
      setText(this.error, `The recording lasts ${this.seconds.toFixed(0)} s; expected at least ${this.choices.least_video_s} s, best ${GOOD_SECONDS} to 90 s.`);
      this.show(this.again);
    } else this.show(this.use, this.again);
    announce("The recording has stopped.");
  }

  async accept() {
    this.use.disabled = true;
    try {
      await this.sender.flush();
      setText(this.sentHint, "Looking at the recording");
      await this.done();
    } catch (error) {
      // What was recorded is still here, and perhaps the server only has to come back.
      setText(this.error, error.message);
      announce(error.message);
    } finally {
      this.use.disabled = false;
    }
  }

  fail(error) {
    setText(this.error, error.message);
    clearTimeout(this.timer);
    this.busyWithIt = false;
    this.time.hidden = true;
    setText(this.count, "");
    if (this.recorder?.state === "recording") this.recorder.stop();
    this.recorder = null;
    this.node.classList.remove("running");
    this.show(this.stream ? this.start : this.turnOn);
  }

  close() {
    clearTimeout(this.timer);
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.audio?.close();
    this.audio = null;
    this.level.value = 0;
    this.preview.srcObject = null;
    this.stage.classList.remove("live");
  }
}
