// The page with the head: one session over WebRTC, a microphone, texts and files.

const element = (id) => document.getElementById(id);
const video = element("head");
const DURING = ["microphone", "mute", "interrupt", "end", "file"];
const WATCH_MS = 1000;
const ICE_WAIT_MS = 2000;
const BUFFER_MS = 40;

let config = { talkers: [], text: false, webrtc: true, ice_servers: [], pages: [] };
let session = null; // { id, connection, sender, microphone, watch }

class Refused extends Error {}

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  let sentence = `The server answered ${answer.status}.`;
  try {
    sentence = (await answer.json()).error || sentence;
  } catch {
    // Not JSON: the number has to do.
  }
  throw new Refused(sentence);
}

function say(text) {
  element("status").textContent = text;
}

function complain(error) {
  const place = element("problem");
  place.hidden = !error;
  place.textContent = error ? error.message || String(error) : "";
}

async function attempt(action) {
  complain(null);
  try {
    return await action();
  } catch (error) {
    complain(error);
    return undefined;
  }
}

function enable(open) {
  for (const id of DURING) element(id).disabled = !open;
  element("text").disabled = element("speak").disabled = !open || !config.text;
  element("talker").disabled = open;
  element("start").hidden = open;
  element("figures").hidden = !open;
}

async function gathered(connection) {
  if (connection.iceGatheringState === "complete") return;
  await new Promise((resolve) => {
    setTimeout(resolve, ICE_WAIT_MS);
    connection.addEventListener("icegatheringstatechange", () => {
      if (connection.iceGatheringState === "complete") resolve();
    });
  });
}

function receive(connection) {
  const stream = new MediaStream();
  video.srcObject = stream;
  connection.addEventListener("track", (event) => {
    stream.addTrack(event.track);
    // Both leave the server in step; the same wait for both keeps them so.
    if ("jitterBufferTarget" in event.receiver) event.receiver.jitterBufferTarget = BUFFER_MS;
    video.play().catch(() => say("Press the picture to hear sound."));
  });
}

async function connect(id) {
  const connection = new RTCPeerConnection({ iceServers: config.ice_servers });
  receive(connection);
  const sender = connection.addTransceiver("audio", { direction: "sendrecv" }).sender;
  connection.addTransceiver("video", { direction: "recvonly" });
  connection.addEventListener("connectionstatechange", () => {
    if (session && session.connection === connection && connection.connectionState === "failed") {
      end("The connection broke off.");
    }
  });
  await connection.setLocalDescription(await connection.createOffer());
  await gathered(connection);
  const answer = await ask(`/sessions/${id}/offer`, {
    method: "POST",
    headers: { "content-type": "application/sdp" },
    body: connection.localDescription.sdp,
  });
  await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  return { connection, sender };
}

async function start() {
  element("start").disabled = true;
  say("Beginning a session ...");
  try {
    const begun = await ask("/sessions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ talker: element("talker").value || null }),
    });
    const state = await begun.json();
    session = { id: state.id, microphone: null };
    Object.assign(session, await connect(state.id));
    session.watch = setInterval(watch, WATCH_MS);
    enable(true);
    say("The session is open. Use the microphone, a text or a file.");
    element("microphone").focus();
  } catch (error) {
    await end("");
    throw error;
  } finally {
    element("start").disabled = false;
  }
}

async function end(reason) {
  const ended = session;
  session = null;
  enable(false);
  if (ended) {
    clearInterval(ended.watch);
    release(ended);
    if (ended.connection) ended.connection.close();
    await fetch(`/sessions/${ended.id}`, { method: "DELETE", keepalive: true }).catch(() => undefined);
  }
  video.srcObject = null;
  say(reason || "Press Start to begin a session.");
}

async function watch() {
  try {
    const state = await (await ask(`/sessions/${session.id}`)).json();
    const waiting = state.waiting_s > 0 ? `, ${state.waiting_s.toFixed(1)} s to say` : "";
    element("figures").textContent = `${state.delay_ms} ms behind its sound${waiting}; late pictures: ${state.repeated}`;
    if (state.error) throw new Refused(`The session failed: ${state.error}`);
  } catch (error) {
    if (session && error instanceof Refused) {
      await end("The session has ended.");
      complain(error);
    }
  }
}

function release(of) {
  if (!of.microphone) return;
  for (const track of of.microphone.getTracks()) track.stop();
  of.microphone = null;
  press("microphone", false);
}

function press(id, pressed) {
  element(id).setAttribute("aria-pressed", String(pressed));
}

async function toggleMicrophone() {
  if (session.microphone) {
    release(session);
    await session.sender.replaceTrack(null);
    say("The microphone is off.");
    return;
  }
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the microphone to pages of this machine (127.0.0.1) and to encrypted ones alone.");
  }
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  session.microphone = await navigator.mediaDevices.getUserMedia({ audio });
  await session.sender.replaceTrack(session.microphone.getAudioTracks()[0]);
  press("microphone", true);
  say("The head repeats what the microphone hears.");
}

function toggleSound() {
  video.muted = !video.muted;
  press("mute", video.muted);
  say(video.muted ? "Sound is off." : "Sound is on.");
}

async function speakText() {
  const text = element("text").value.trim();
  if (!text) throw new Error("There is no text to speak.");
  say("Preparing the text ...");
  await ask(`/sessions/${session.id}/text`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ text }),
  });
  say("Speaking.");
}

async function speakFile(file) {
  if (!file) return;
  say(`Sending ${file.name} ...`);
  try {
    await ask(`/sessions/${session.id}/sound`, { method: "POST", body: file });
    say(`Speaking ${file.name}.`);
  } catch (error) {
    say("");
    throw error;
  }
}

async function interrupt() {
  await ask(`/sessions/${session.id}/interrupt`, { method: "POST" });
  say("It stopped speaking.");
}

function listen() {
  const on = (id, event, action) => element(id).addEventListener(event, () => attempt(action));
  on("start", "click", start);
  on("end", "click", () => end(""));
  on("microphone", "click", toggleMicrophone);
  on("mute", "click", async () => toggleSound());
  on("interrupt", "click", interrupt);
  element("head").addEventListener("click", () => video.play());
  element("text-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(speakText);
  });
  element("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("text-form").requestSubmit();
  });
  element("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    attempt(() => speakFile(file)).then(() => (event.target.value = ""));
  });
  const drop = element("drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.toggle("over", Boolean(session));
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (session) attempt(() => speakFile(event.dataTransfer.files[0]));
    else complain(new Error("Press Start first."));
  });
  addEventListener("pagehide", () => session && end(""));
}

async function prepare() {
  config = await (await ask("/config")).json();
  element("talker").replaceChildren(...config.talkers.map((name) => new Option(name, name)));
  const wanted = new URLSearchParams(location.search).get("talker");
  if (config.talkers.includes(wanted)) element("talker").value = wanted;
  element("studio-link").hidden = !config.pages.includes("/studio");
  if (!config.text) {
    element("text-hint").textContent = "No voice is installed on the server (pip install gaussiantalker-ns[sample]).";
  }
  if (!config.webrtc) {
    element("start").disabled = true;
    throw new Error("This server has no WebRTC: it needs the package aiortc, which wants Python 3.11.");
  }
}

// For measurements and tests.
window.gaussiantalker = { session: () => session };

enable(false);
listen();
attempt(prepare);
