// The browser's side of the audio timeline: sound, pictures in step with it, and the drawn curves.
//
// The sound is the clock. A picture that comes early waits for its time, one that comes more than
// LATE_FRAMES late is dropped, and nothing is queued beyond a handful. The server sends calls of
// `gaussianTalker`; answers go through an invisible text field of the panel, whose id is `clock`.
(() => {
  if (window.gaussianTalker) return;

  const FPS = 25, LATE_FRAMES = 2, MOST_WAITING = 30, MOST_MARGINS = 12, REPORT_MS = 200, LOG_LENGTH = 3000, SCENE_PAUSE_MS = 120;
  const HEIGHT = 132, WAVE = 62, MOUTH = 38;
  const INK = { back: "#1b1c20", wave: "#7f9cc9", mouth: "#ffd369", recorded: "#8a8f98",
    head: "#ff6b6b", text: "#d5d7db" };
  // Small pictures are drawn faster by the processor than by a GPU that is emulated.
  const PLAIN = { willReadFrequently: true };
  const state = { clock: null, epoch: -1, playing: false, frame: 0, track: null, speed: 1,
    loop: false,
    upload: null, maxBytes: Infinity };
  const log = [];
  const counts = { arrived: 0, shown: 0, dropped: 0, perSecond: 0, drawings: 0 };
  let waiting = [], margins = [], parts = null, serial = 0, blocked = false, drawn = "";

  // viser keeps its connection inside a worker; the first message it sends shows us which one.
  let worker = null, unsent = [];
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (message, ...rest) {
    if (message && message.type === "send" && worker !== this) {
      worker = this;
      worker.addEventListener("message", listen);
      unsent.splice(0).forEach(tell);
    }
    return post.call(this, message, ...rest);
  };

  // viser runs messages when it draws its scene, which is slow without a GPU: pictures are taken
  // as they come. That viser hands them over again later does no harm.
  const PICTURE = /^gaussianTalker\.picture\((\d+),(\d+),(\d+),"([A-Za-z0-9+/=]+)"\)$/;
  function listen(event) {
    for (const message of event.data?.messages ?? []) {
      const call = message.type === "RunJavascriptMessage" && PICTURE.exec(message.source);
      if (call) picture(Number(call[1]), Number(call[2]), Number(call[3]), call[4]);
    }
  }

  function tell(event) {
    if (worker === null || state.clock === null) {
      if (unsent.length < 20) unsent.push(event);
      return;
    }
    const value = JSON.stringify({ ...event, serial: ++serial });
    const message = { type: "GuiUpdateMessage", id: state.clock, updates: { value } };
    post.call(worker, { type: "send", message });
  }

  // Sound.
  const audio = document.createElement("audio");
  audio.id = "gaussiantalker-audio";
  audio.preload = "auto";
  audio.preservesPitch = true;
  audio.style.display = "none";
  document.body.append(audio);
  audio.addEventListener("ended", () => tell({ kind: "ended", epoch: state.epoch }));
  audio.addEventListener("loadedmetadata", follow);

  function follow() {
    // Brings the element to what the server said last; before the sound is there, nothing happens.
    if (audio.readyState < 1) return;
    audio.loop = state.loop;
    audio.playbackRate = state.speed;
    if (!state.playing) {
      audio.pause();
      audio.currentTime = state.frame / FPS;
      return;
    }
    audio.currentTime = state.frame / FPS;
    audio.play().catch((error) => {
      if (error.name !== "NotAllowedError") return;
      // Browsers allow silent playback without a click; the next click gives the sound back.
      blocked = audio.muted = true;
      audio.play();
    });
  }
  window.addEventListener("pointerdown", () => {
    if (blocked) blocked = audio.muted = false;
  }, true);

  function bytesOf(base64) {
    const text = atob(base64), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  function sound(track, index, count, base64) {
    if (index === 0) parts = { track, pieces: [] };
    if (parts === null || parts.track !== track || parts.pieces.length !== index) return;
    parts.pieces.push(bytesOf(base64));
    if (index + 1 < count) return;
    URL.revokeObjectURL(audio.src);
    audio.src = URL.createObjectURL(new Blob(parts.pieces, { type: "audio/wav" }));
    audio.dataset.track = String(track);
    parts = null;
  }

  // Pictures.
  const screen = document.createElement("canvas");
  screen.id = "gaussiantalker-screen";
  Object.assign(screen.style, { position: "absolute", inset: "0", width: "100%", height: "100%",
    objectFit: "contain", background: "#1a1b1e", pointerEvents: "none", display: "none" });

  function stage() {
    const others = [...document.querySelectorAll("canvas")].filter(
      (other) => other !== screen && other !== plot && other.width > 1);
    others.sort((a, b) => b.clientWidth * b.clientHeight - a.clientWidth * a.clientHeight);
    return others.find((other) => other.dataset.engine) ?? others[0];
  }

  function wrapped(difference) {
    if (!state.loop || state.track === null) return difference;
    const n = state.track.frames;
    return ((difference + n / 2) % n + n) % n - n / 2;
  }

  const due = () => audio.currentTime * FPS;

  let newest = -1;
  function picture(serial, epoch, frame, base64) {
    if (serial <= newest || epoch !== state.epoch || !state.playing) return;
    newest = serial;
    counts.arrived++;
    createImageBitmap(new Blob([bytesOf(base64)], { type: "image/jpeg" })).then((bitmap) => {
      if (epoch !== state.epoch) return bitmap.close();
      margins.push([serial, wrapped(frame - due()) / FPS]);
      waiting.push({ frame, bitmap });
      if (waiting.length > MOST_WAITING) {
        waiting.pop().bitmap.close();
        counts.dropped++;
      }
    });
  }

  function show() {
    const now = due();
    let next = null;
    while (waiting.length && wrapped(now - waiting[0].frame) >= -0.25) {
      if (next !== null) next.bitmap.close();
      next = waiting.shift();
    }
    if (next === null) return;
    if (wrapped(now - next.frame) > LATE_FRAMES) {
      counts.dropped++;
    } else {
      screen.width = next.bitmap.width;
      screen.height = next.bitmap.height;
      screen.getContext("2d", PLAIN).drawImage(next.bitmap, 0, 0);
      screen.dataset.frame = String(next.frame);
      screen.style.display = "block";
      counts.shown++;
      log.push({ frame: next.frame, seconds: audio.currentTime, at: performance.now() });
      if (log.length > LOG_LENGTH) log.splice(0, LOG_LENGTH / 2);
    }
    next.bitmap.close();
  }

  function clear() {
    waiting.splice(0).forEach((one) => one.bitmap.close());
    margins = [];
  }

  // A file above the limit is not even sent. The listener comes before viser's own.
  document.addEventListener("change", (event) => {
    const input = event.target, file = input.files && input.files[0];
    if (!file || input.id !== `file_upload_${state.upload}` || file.size <= state.maxBytes) return;
    event.stopImmediatePropagation();
    input.value = "";
    tell({ kind: "refused", bytes: file.size });
  }, true);

  // The drawn curves; a click or a drag on them goes to that time.
  const plot = document.createElement("canvas");
  plot.id = "gaussiantalker-plot";
  Object.assign(plot.style, { width: "100%", height: HEIGHT + "px", cursor: "pointer",
    display: "block", touchAction: "none", borderRadius: "4px" });
  let sought = -1;
  function seek(event) {
    if (state.track === null) return;
    const box = plot.getBoundingClientRect();
    const fraction = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    const frame = Math.min(Math.floor(fraction * state.track.frames), state.track.frames - 1);
    if (frame !== sought) tell({ kind: "seek", frame });
    sought = frame;
  }
  plot.addEventListener("pointerdown", (event) => {
    plot.setPointerCapture(event.pointerId);
    sought = -1;
    seek(event);
  });
  plot.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) seek(event);
  });

  const shownFrame = () => state.playing
    ? Math.min(Math.floor(due()), state.track.frames - 1) : state.frame;

  function clockText(frame) {
    const seconds = (value) => (value / FPS).toFixed(2);
    return `${seconds(frame)} / ${seconds(state.track.frames)} s   ` +
      `frame ${frame} of ${state.track.frames}`;
  }

  function rateText() {
    if (blocked) return "The browser blocks sound: click anywhere.";
    if (!state.playing) return state.track.label;
    const last = log[log.length - 1];
    const late = last === undefined ? 0 : wrapped(last.seconds * FPS - last.frame) / FPS * 1000;
    return `${counts.perSecond.toFixed(1)} pictures/s   ${counts.dropped} dropped   ` +
      `picture ${Math.abs(late).toFixed(0)} ms ${late < 0 ? "early" : "late"}`;
  }

  function line(pen, levels, top, height, width) {
    pen.beginPath();
    levels.forEach((level, i) => {
      const x = (i + 0.5) / levels.length * width, y = top + height - 2 - level / 255 * (height - 4);
      i ? pen.lineTo(x, y) : pen.moveTo(x, y);
    });
    pen.stroke();
  }

  function draw() {
    const host = document.getElementById("gaussiantalker-timeline");
    if (host === null || state.track === null) return;
    if (!host.contains(plot)) host.append(plot);
    const width = plot.clientWidth, ratio = window.devicePixelRatio || 1;
    if (width === 0) return;
    const track = state.track, frame = shownFrame();
    const now = [track.key, width, ratio, clockText(frame), rateText(), track.mouth.length].join();
    if (now === drawn) return;
    drawn = now;
    plot.width = Math.round(width * ratio);
    plot.height = Math.round(HEIGHT * ratio);
    const pen = plot.getContext("2d", PLAIN);
    pen.scale(ratio, ratio);
    pen.fillStyle = INK.back;
    pen.fillRect(0, 0, width, HEIGHT);
    pen.fillStyle = INK.wave;
    track.loudness.forEach((level, i) => {
      const half = Math.max(level / 255 * (WAVE / 2 - 3), 0.5), step = width / track.loudness.length;
      pen.fillRect(i * step, WAVE / 2 - half, Math.max(step - 0.2, 0.4), 2 * half);
    });
    pen.lineWidth = 1;
    pen.strokeStyle = INK.recorded;
    line(pen, track.recorded, WAVE, MOUTH, width);
    pen.strokeStyle = INK.mouth;
    line(pen, track.mouth, WAVE, MOUTH, width);
    const x = (frame + 0.5) / track.frames * width;
    pen.fillStyle = INK.head;
    pen.fillRect(x - 0.75, 0, 1.5, WAVE + MOUTH);
    pen.fillStyle = INK.text;
    pen.font = "11px system-ui, sans-serif";
    pen.fillText(clockText(frame), 6, WAVE + MOUTH + 13, width - 12);
    pen.fillText(rateText(), 6, WAVE + MOUTH + 27, width - 12);
    plot.dataset.frame = String(frame);
  }

  // viser draws its scene 60 times a second, also behind our pictures. Without a GPU that takes all
  // of the processor, so the scene has to make do with a few drawings meanwhile.
  const nextDrawing = window.requestAnimationFrame.bind(window);
  const cancelDrawing = window.cancelAnimationFrame.bind(window);
  const postponed = new Map();
  let postponements = 1e9, pressed = false;
  window.addEventListener("pointerdown", () => { pressed = true; }, true);
  window.addEventListener("pointerup", () => { pressed = false; }, true);
  if (drawsInSoftware()) {
    window.requestAnimationFrame = (callback) => {
      if (pressed || !state.playing || screen.style.display === "none") return nextDrawing(callback);
      const id = ++postponements;
      postponed.set(id, setTimeout(() => {
        postponed.delete(id);
        nextDrawing(callback);
      }, SCENE_PAUSE_MS));
      return id;
    };
    window.cancelAnimationFrame = (id) => {
      if (!postponed.has(id)) return cancelDrawing(id);
      clearTimeout(postponed.get(id));
      postponed.delete(id);
    };
  }

  function drawsInSoftware() {
    const gl = document.createElement("canvas").getContext("webgl");
    const info = gl && gl.getExtension("WEBGL_debug_renderer_info");
    const name = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "";
    return gl === null || /swiftshader|llvmpipe|software|basic render/i.test(name);
  }

  function tick() {
    counts.drawings++;
    nextDrawing(tick);
    if (state.playing) show();
    draw();
  }
  nextDrawing(tick);

  let counted = { shown: 0, at: performance.now() };
  setInterval(() => {
    const now = performance.now();
    if (now - counted.at > 1000) {
      counts.perSecond = (counts.shown - counted.shown) / (now - counted.at) * 1000;
      counted = { shown: counts.shown, at: now };
    }
    if (!state.playing || audio.paused || audio.readyState < 2) return;
    const recent = margins.splice(0).slice(-MOST_MARGINS);
    tell({ kind: "clock", epoch: state.epoch, seconds: audio.currentTime, margins: recent });
  }, REPORT_MS);

  window.gaussianTalker = {
    log, counts, state, sound, picture,
    setup(clock, upload, maxBytes) {
      Object.assign(state, { clock, upload, maxBytes });
      newest = -1;
      unsent.splice(0).forEach(tell);
    },
    track(track) {
      if (state.track === null || state.track.key !== track.key) {
        URL.revokeObjectURL(audio.src);
        audio.removeAttribute("src");
        audio.load();
      }
      state.track = track;
      drawn = "";
    },
    go(news) {
      // A new stretch of playback, or a stop.
      if (!screen.isConnected) stage()?.parentElement.append(screen);
      clear();
      Object.assign(state, news);
      if (state.playing) Object.assign(counts, { arrived: 0, shown: 0, dropped: 0, perSecond: 0, drawings: 0 });
      counted = { shown: 0, at: performance.now() };
      follow();
    },
    nudge(epoch, seconds) {
      if (epoch === state.epoch && state.playing) audio.currentTime = seconds;
    },
    volume(value) { audio.volume = value; },
    reveal() {
      // viser decodes its background picture by itself; it is there a few refreshes later.
      const epoch = state.epoch;
      setTimeout(() => {
        if (epoch === state.epoch && waiting.length === 0) screen.style.display = "none";
      }, 120);
    },
  };
})();
