// Step 2: record a video or upload one; or go on with what arrived before a reload.

import { address, projectAddress, send } from "./api.js";
import { announce, busy, bytes, el, errorLine, setText } from "./dom.js";
import { Recorder } from "./recorder.js";
import { PieceSender } from "./sender.js";

const fingerprintOf = (file) => `${file.name}|${file.size}|${file.lastModified}`;

export class VideoPanel {
  constructor(project, choices) {
    this.slug = project.slug;
    this.choices = choices;
    this.recorder = null;
    this.sender = null;
    this.node = el("div", { class: "stack" });
    this.error = errorLine();
    if (project.upload?.received > 0) this.askAboutRest(project.upload);
    else this.choose("record");
  }

  finish() {
    return send("POST", projectAddress(this.slug, "finish-upload"));
  }

  // A reload, or the end of the browser, has left a part on the server.
  askAboutRest(upload) {
    const isRecording = upload.kind === "recording";
    const use = el("button", { class: "primary", type: "button" }, "Use what is there");
    const anew = el("button", { type: "button" }, isRecording ? "Record again" : "Start again");
    use.onclick = () => busy(use, this.error, () => this.finish()).then(() => this.error.textContent && this.choose("record"));
    anew.onclick = () =>
      busy(anew, this.error, async () => {
        await send("DELETE", address("uploads", this.slug));
        this.choose(isRecording ? "record" : "upload");
      });
    const text = isRecording
      ? `A recording was interrupted. ${bytes(upload.received)} of it are safe.`
      : `An upload was interrupted. ${bytes(upload.received)} of ${bytes(upload.bytes)} are safe: choose the same file again, and it goes on.`;
    this.node.replaceChildren(
      el("div", { class: "notice" }, el("p", {}, text), el("div", { class: "row" }, isRecording ? use : null, anew)),
      isRecording ? "" : this.fileField(upload),
      this.error,
    );
  }

  choose(way) {
    this.leave();
    const tab = (name, title) =>
      el("button", { type: "button", "aria-pressed": way === name ? "true" : "false", onclick: () => this.choose(name) }, title);
    const said = this.error.textContent;
    this.error = errorLine();
    setText(this.error, said);
    const inside = way === "record" ? this.recordArea() : this.fileField(null);
    this.node.replaceChildren(
      el("div", { class: "row tabs", role: "group", "aria-label": "Where the video comes from" }, tab("record", "Record now"), tab("upload", "Upload a video")),
      this.error,
      inside,
      this.advice(),
    );
  }

  recordArea() {
    this.recorder = new Recorder(this.slug, this.choices, () => this.finish());
    return this.recorder.node;
  }

  advice() {
    const lines = [
      "One person, alone in the picture, in one take of 40 to 90 seconds.",
      "Camera still and at the height of the eyes; the face fills the oval.",
      "Even light from the front, a still background, a quiet room, no music.",
      "Nothing before the mouth: no hand, no microphone, no cup.",
    ];
    return el("details", { class: "advice" }, el("summary", {}, "What makes a good video"), el("ul", {}, lines.map((line) => el("li", {}, line))));
  }

  fileField(rest) {
    const input = el("input", { type: "file", id: "video-file", accept: "video/*" });
    const bar = el("progress", { max: 1, value: 0, "aria-label": "Upload", hidden: true });
    const hint = el("p", { class: "hint" }, `mp4, mov, webm or mkv, at most ${Math.round(this.choices.most_video_bytes / 2 ** 20)} MiB.`);
    const cancel = el("button", { type: "button", hidden: true }, "Cancel");
    const area = el("div", { class: "drop" }, el("div", { class: "field" }, el("label", { for: "video-file" }, "Video file"), input), hint, bar, cancel);
    const begin = (file) => this.uploadFile(file, rest, { input, bar, hint, cancel });
    input.onchange = () => input.files[0] && begin(input.files[0]);
    area.ondragover = (event) => {
      event.preventDefault();
      area.classList.add("over");
    };
    area.ondragleave = () => area.classList.remove("over");
    area.ondrop = (event) => {
      event.preventDefault();
      area.classList.remove("over");
      if (event.dataTransfer.files[0]) begin(event.dataTransfer.files[0]);
    };
    return area;
  }

  async uploadFile(file, rest, { input, bar, hint, cancel }) {
    setText(this.error, "");
    input.disabled = true;
    bar.hidden = cancel.hidden = false;
    this.sender = new PieceSender(this.slug, this.choices.piece_bytes, () => file, (sent, total) => {
      bar.value = sent / total;
      setText(hint, `${bytes(sent)} of ${bytes(total)}`);
    });
    cancel.onclick = async () => {
      this.sender.cancel();
      await send("DELETE", address("uploads", this.slug)).catch(() => null);
      this.choose("upload");
    };
    try {
      if (rest && rest.fingerprint === fingerprintOf(file)) this.sender.sent = rest.received;
      else await this.sender.begin(file.size, fingerprintOf(file), "file");
      await this.sender.flush();
      if (this.sender.cancelled) return;
      setText(hint, "Looking at the video");
      announce("The video is on the server.");
      await this.finish();
    } catch (error) {
      announce(error.message);
      this.choose("upload");
      setText(this.error, error.message);
    }
  }

  update() {}

  leave() {
    this.recorder?.close();
    this.recorder = null;
  }
}
