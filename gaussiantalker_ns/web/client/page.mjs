/** The page around a talker: play, drop, microphone, the mouse, and what has to be said. */

import { load } from "./talker.mjs";

const EASE = 0.15;

/**
 * Fill the page.
 * @param {string|ArrayBuffer} source The packed talker.
 * @param {object} options As `load` takes them.
 * @param {ArrayBuffer|null} demo A sound for the button.
 */
export async function startPage(source, options, demo) {
  const element = (id) => document.getElementById(id);
  const say = (text, isError = false) => {
    element("status").textContent = text;
    element("status").classList.toggle("error", isError);
  };
  try {
    const talker = await load(source, options);
    const parameters = new URLSearchParams(location.search);
    await talker.attach(element("view"), { renderer: parameters.get("renderer") ?? "auto" });
    tellAbout(talker.about, element("about"), element("licences"));
    connect(talker, demo, element, say);
    turnWithPointer(talker, element("stage"));
    say("Ready. Everything happens on this machine; nothing is sent anywhere.");
    element("stage").dataset.ready = "true";
    return talker;
  } catch (error) {
    say(error.message, true);
    throw error;
  }
}

function connect(talker, demo, element, say) {
  const attempt = async (what) => {
    try {
      await what();
    } catch (error) {
      say(error.message, true);
    }
  };
  const speak = (sound, name) => attempt(async () => {
    say(`Listening to ${name} ...`);
    await talker.speak(sound);
    if (talker.state === "idle") say("Ready.");
  });
  const choose = (file) => file && speak(file, file.name);
  element("play").hidden = !demo;
  element("play").onclick = () => speak(demo.slice(0), "the example");
  element("file").onchange = ({ target }) => {
    choose(target.files[0]);
    target.value = "";
  };
  element("choose").onclick = () => element("file").click();
  element("microphone").onclick = () => attempt(() => talker.listen());
  element("stop").onclick = () => {
    talker.stop();
    say("Ready.");
  };
  document.ondragover = (event) => event.preventDefault();
  document.ondrop = (event) => {
    event.preventDefault();
    choose(event.dataTransfer.files[0]);
  };
  const states = {
    speaking: "Speaking.",
    listening: "Listening to the microphone; the picture follows a fifth of a second later.",
  };
  talker.addEventListener("state", ({ detail }) => {
    element("stop").disabled = detail === "idle";
    element("stage").dataset.state = detail;
    if (states[detail]) say(states[detail]);
  });
  talker.addEventListener("error", ({ detail }) => say(detail, true));
  for (const id of ["play", "choose", "microphone"]) element(id).disabled = false;
}

/** The head follows the pointer over the picture, within what the training saw. */
function turnWithPointer(talker, stage) {
  const { yaw, pitch } = talker.range;
  let target = null;
  let shown = { yaw: (yaw[0] + yaw[1]) / 2, pitch: (pitch[0] + pitch[1]) / 2, weight: 0 };
  let isMoving = false;
  const step = () => {
    const goal = target ?? { ...shown, weight: 0 };
    let left = 0;
    for (const name of Object.keys(shown)) {
      const change = goal[name] - shown[name];
      shown = { ...shown, [name]: shown[name] + EASE * change };
      left = Math.max(left, Math.abs(change));
    }
    isMoving = left > 1e-3;
    talker.pose(!isMoving && !target ? null : shown);
    if (isMoving) requestAnimationFrame(step);
  };
  const move = () => {
    if (!isMoving) {
      isMoving = true;
      requestAnimationFrame(step);
    }
  };
  stage.addEventListener("pointermove", (event) => {
    const box = stage.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const between = ([low, high], part) => low + Math.min(Math.max(part, 0), 1) * (high - low);
    target = { yaw: between(yaw, x), pitch: between(pitch, 1 - y), weight: 1 };
    move();
  });
  for (const name of ["pointerleave", "pointercancel"]) {
    stage.addEventListener(name, () => {
      target = null;
      move();
    });
  }
}

/** Consent, licence and provenance as text, which they are whatever they hold. */
function tellAbout(about, table, licences) {
  const versions = Object.entries(about.versions).map((pair) => pair.join(" "));
  const rows = {
    Consent: about.consent ?? "None is recorded: do not use it without asking the person shown.",
    Licence: about.licence ?? "Not stated: ask its owner.",
    Method: `${about.method}, step ${about.step}`,
    Packed: about.packed,
    Talker: `sha256 ${about.talker_sha256}`,
    Checkpoint: `${about.checkpoint}, sha256 ${about.checkpoint_sha256}`,
    "Data set": `sha256 ${about.dataset_sha256}`,
    "Made with": versions.join(", "),
  };
  const add = (parent, kind, text) => {
    const made = parent.appendChild(document.createElement(kind));
    made.textContent = text;
    return made;
  };
  for (const [name, text] of Object.entries(rows)) {
    const row = table.appendChild(document.createElement("tr"));
    add(row, "th", name);
    add(row, "td", text);
  }
  for (const [name, text] of Object.entries(about.notices)) {
    add(licences, "h3", name);
    add(licences, "pre", text);
  }
}
