// The page of one talker: let it speak, keep the videos and the file, or delete it.

import { send, sendBytes, talkerAddress } from "./api.js";
import { announce, busy, bytes, confirmed, day, el, errorLine, setText } from "./dom.js";

class VideoItem {
  constructor(talker, video) {
    this.address = talkerAddress(talker, "videos", video.id);
    this.video = el("video", { controls: true, playsinline: true, preload: "metadata", "aria-label": `Video: ${video.title}` });
    this.video.hidden = true;
    this.bar = el("progress", { max: 1, "aria-label": "Rendering" });
    this.line = el("p", { class: "hint" });
    this.error = errorLine();
    this.save = el("a", { class: "button", href: `${this.address}?download`, download: "" }, "Download mp4");
    this.resume = el("button", { type: "button" }, "Resume");
    this.remove = el("button", { type: "button", class: "danger" }, "Delete");
    this.resume.onclick = () => busy(this.resume, this.error, () => send("POST", `${this.address}/resume`));
    this.remove.onclick = async () => {
      if (await confirmed("Delete this video?", video.title, "Delete")) await busy(this.remove, this.error, () => send("DELETE", this.address));
    };
    this.node = el(
      "li",
      { class: "card stack spoken" },
      el("strong", { class: "clamp" }, video.title),
      this.video,
      this.bar,
      this.line,
      el("div", { class: "row" }, this.save, this.resume, this.remove),
      this.error,
    );
  }

  update(video) {
    const running = video.state === "running";
    const ready = video.state === "done" && video.bytes !== null;
    this.bar.hidden = !running;
    if (running && video.total) this.bar.value = video.done / video.total;
    else this.bar.removeAttribute("value");
    this.save.hidden = !ready;
    this.resume.hidden = running || ready;
    if (ready && this.video.hidden) {
      this.video.src = this.address;
      this.video.hidden = false;
      if (this.wasRunning) announce("The video is ready.");
    }
    this.wasRunning = running;
    const frames = video.total ? `${video.done} of ${video.total} frames` : "Getting ready";
    const said = { running: frames, done: `${day(video.created)}, ${bytes(video.bytes)}`, failed: video.message, stopped: "Stopped", interrupted: "Interrupted. It goes on where it was." };
    setText(this.line, said[video.state] ?? "");
    this.line.className = video.state === "failed" ? "error" : "hint";
  }
}

export class TalkerView {
  constructor(name, choices) {
    this.name = name;
    this.choices = choices;
    this.title = el("h1", { tabindex: -1 });
    this.body = el("div", {});
    this.node = el("div", {}, el("p", {}, el("a", { href: "#/" }, "All talkers")), this.title, this.body);
    this.items = new Map();
    this.built = false;
  }

  build(talker, voice) {
    this.error = errorLine();
    this.list = el("ul", { class: "videos" });
    this.none = el("p", { class: "hint" }, "Nothing said yet.");
    const remove = el("button", { type: "button", class: "danger" }, "Delete this talker");
    remove.onclick = async () => {
      const text = `${talker.title} is deleted for good, with its videos, its recording and its training.`;
      if (!(await confirmed("Delete this talker?", text, "Delete"))) return;
      const gone = await busy(remove, this.error, async () => {
        await send("DELETE", talkerAddress(this.name));
        return true;
      });
      if (gone) location.hash = "#/";
    };
    const facts = [
      ["Size", bytes(talker.bytes)],
      ["Consent", talker.consent ?? "none recorded: ask the person shown"],
      ["Licence", talker.licence ?? "not stated"],
      ["Pictures", talker.pixels ? `${talker.pixels} x ${talker.pixels} pixels` : ""],
      ["Training", talker.method ? `${talker.method}, ${talker.steps} steps` : ""],
    ].filter(([, value]) => value);
    const live = `/?talker=${encodeURIComponent(this.name)}`;
    this.body.replaceChildren(
      el(
        "div",
        { class: "columns" },
        el(
          "section",
          { class: "card stack", "aria-label": "The talker" },
          talker.problem || talker.run ? null : el("img", { class: "portrait", src: talkerAddress(this.name, "picture"), alt: `Picture of ${talker.title}` }),
          talker.problem ? el("p", { class: "error" }, talker.problem) : null,
          el("dl", { class: "facts" }, facts.map(([key, value]) => [el("dt", {}, key), el("dd", {}, value)])),
          el("div", { class: "row" }, talker.run ? null : el("a", { class: "button", href: talkerAddress(this.name, "file"), download: "" }, "Download .talker"), talker.can_delete ? remove : null),
          this.error,
        ),
        el(
          "section",
          { class: "stack", "aria-labelledby": "try-title" },
          el("div", { class: "card stack" }, el("h2", { id: "try-title" }, "Let it speak"), this.textForm(voice), el("hr", {}), this.fileForm(), el("hr", {}), el("div", { class: "row" }, el("a", { class: "button", href: live }, "Talk to it live, with the microphone"))),
          el("h2", {}, "Videos"),
          this.none,
          this.list,
        ),
      ),
    );
    this.built = true;
  }

  textForm(voice) {
    if (!voice) return el("p", { class: "hint" }, "A text can be spoken once espeak-ng is installed on the server.");
    const text = el("textarea", { id: "text", maxlength: 2000, required: true });
    const go = el("button", { type: "submit", class: "primary" }, "Make a video of the text");
    const error = errorLine();
    const form = el("form", { class: "stack" }, el("div", { class: "field" }, el("label", { for: "text" }, "A text, in a computer voice"), text), el("div", { class: "row" }, go), error);
    form.onsubmit = (event) => {
      event.preventDefault();
      busy(go, error, async () => {
        await send("POST", talkerAddress(this.name, "speak-text"), { text: text.value });
        text.value = "";
        announce("The video is being made.");
      });
    };
    return form;
  }

  fileForm() {
    const input = el("input", { type: "file", id: "audio", accept: "audio/*,video/*", required: true });
    const go = el("button", { type: "submit" }, "Make a video of the recording");
    const error = errorLine();
    const form = el("form", { class: "stack" }, el("div", { class: "field" }, el("label", { for: "audio" }, "Or a recording of speech"), input), el("div", { class: "row" }, go), error);
    form.onsubmit = (event) => {
      event.preventDefault();
      const [file] = input.files;
      if (file.size > this.choices.most_audio_bytes) {
        setText(error, `The file has ${bytes(file.size)}; expected at most ${bytes(this.choices.most_audio_bytes)}.`);
        return;
      }
      busy(go, error, async () => {
        await sendBytes("POST", `${talkerAddress(this.name, "speak-recording")}?name=${encodeURIComponent(file.name)}`, file);
        input.value = "";
        announce("The video is being made.");
      });
    };
    return form;
  }

  update(state) {
    const talker = state.talkers.find((one) => one.name === this.name);
    if (!talker) {
      setText(this.title, "There is no such talker");
      this.body.replaceChildren();
      this.built = false;
      return;
    }
    setText(this.title, talker.title);
    document.title = `${talker.title} - Studio`;
    if (!this.built) this.build(talker, state.voice);
    const there = new Set(talker.videos.map((video) => video.id));
    for (const [id, item] of this.items) {
      if (there.has(id)) continue;
      item.node.remove();
      this.items.delete(id);
    }
    // The newest comes first; those that are there already stay, or they would stop playing.
    for (const video of [...talker.videos].reverse()) {
      if (!this.items.has(video.id)) {
        this.items.set(video.id, new VideoItem(this.name, video));
        this.list.prepend(this.items.get(video.id).node);
      }
      this.items.get(video.id).update(video);
    }
    this.none.hidden = talker.videos.length > 0;
  }

  leave() {}
}
