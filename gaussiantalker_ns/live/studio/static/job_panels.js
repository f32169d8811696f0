// Steps 3 and 4: the data set, the report and the training, each with stop and resume.

import { projectAddress, send } from "./api.js";
import { announce, busy, clock, confirmed, el, errorLine, setText, timeLeft } from "./dom.js";

const STEP_TITLES = {
  video: "Read the video",
  landmarks: "Find the face",
  tracking: "Track the head",
  segmentation: "Tell head, clothes and background apart",
  layers: "Paint what is behind the head",
  audio: "Listen to the speech",
  dataset: "Write the data set",
  report: "Write the report",
};

const STAGES = {
  canonical: "Stage 1 of 2: learns what the head looks like",
  deformation: "Stage 2 of 2: learns how speech moves it",
};

async function discard(project, button, place) {
  const sure = await confirmed("Discard this video?", "The video and all that was made of it are deleted. Name and consent stay.", "Discard");
  if (sure) await busy(button, place, () => send("POST", projectAddress(project.slug, "discard")));
}

// What stopped, failed and interrupted jobs have in common.
class JobControls {
  constructor(project, what) {
    this.project = project;
    this.what = what;
    this.error = errorLine();
    this.notice = el("p", { class: "notice", hidden: true });
    this.stop = el("button", { type: "button" }, "Stop");
    this.resume = el("button", { type: "button", class: "primary" }, "Resume");
    this.discard = el("button", { type: "button", class: "danger" }, "Discard the video");
    this.stop.onclick = () => busy(this.stop, this.error, () => send("POST", projectAddress(project.slug, "stop")));
    this.resume.onclick = () => busy(this.resume, this.error, () => send("POST", projectAddress(project.slug, "resume")));
    this.discard.onclick = () => discard(project, this.discard, this.error);
    this.node = el("div", { class: "stack" }, this.notice, el("div", { class: "row" }, this.stop, this.resume, this.discard), this.error);
  }

  update(job) {
    const running = job.state === "running";
    this.stop.hidden = !running;
    this.resume.hidden = running;
    this.discard.hidden = running;
    setText(this.resume, job.state === "failed" ? "Try again" : "Resume");
    const said = {
      stopped: `${this.what} was stopped. It goes on where it was.`,
      interrupted: `${this.what} was interrupted. Nothing is lost: it goes on where it was.`,
      failed: job.message ?? `${this.what} has failed.`,
      done: `${this.what} is done, but its result is gone. Make it again.`,
    }[job.state];
    this.notice.hidden = !said;
    this.notice.classList.toggle("bad", job.state === "failed");
    if (said && said !== this.notice.textContent) announce(said);
    setText(this.notice, said ?? "");
  }
}

export class ProcessPanel {
  constructor(project) {
    this.controls = new JobControls(project, "The work on the video");
    this.items = {};
    this.list = el("ol", { class: "steps" });
    for (const { name } of project.job.steps) {
      const bar = el("progress", { max: 1, "aria-label": STEP_TITLES[name], hidden: true });
      const count = el("span", { class: "hint" });
      const node = el("li", {}, el("span", { class: "step-title" }, STEP_TITLES[name] ?? name), count, bar);
      this.items[name] = { node, bar, count };
      this.list.append(node);
    }
    this.elapsed = el("p", { class: "hint" });
    this.node = el(
      "div",
      { class: "stack" },
      el("p", {}, "It takes about as long as the video and a minute more. You may close this page."),
      this.list,
      this.elapsed,
      this.controls.node,
    );
    this.told = "";
  }

  update({ job }) {
    const running = job.state === "running";
    for (const { name, done } of job.steps) {
      const { node, bar, count } = this.items[name];
      const now = running && name === job.step;
      node.className = done ? "done" : now ? "now" : "";
      if (now) node.setAttribute("aria-current", "step");
      else node.removeAttribute("aria-current");
      bar.hidden = !now;
      if (now && job.total) bar.value = job.done / job.total;
      else bar.removeAttribute("value");
      setText(count, now && job.total > 1 ? `${job.done} of ${job.total}` : done ? "done" : "");
      if (now && this.told !== name) {
        announce(STEP_TITLES[name]);
        this.told = name;
      }
    }
    const ready = running && !job.step ? "Getting ready. " : "";
    setText(this.elapsed, job.seconds ? `${ready}${clock(job.seconds)} so far` : ready);
    this.controls.update(job);
  }

  leave() {}
}

export class ReportPanel {
  constructor(project, choices) {
    this.error = errorLine();
    const frame = el("iframe", { src: projectAddress(project.slug, "report"), sandbox: "", title: "Report on the video", class: "report" });
    const drop = el("button", { type: "button", class: "danger" }, "Discard and take another video");
    drop.onclick = () => discard(project, drop, this.error);
    this.node = el(
      "div",
      { class: "stack" },
      el("p", {}, "Look at the report before you train: it says what is wrong with the video, and what to do about it."),
      frame,
      el("p", {}, el("a", { href: projectAddress(project.slug, "report"), target: "_blank", rel: "noopener" }, "Open the report in a tab of its own")),
      el("h2", {}, "Train"),
      qualities(project, choices, this.error, "Start the training"),
      this.error,
      el("div", { class: "row" }, drop),
    );
  }

  update() {}

  leave() {}
}

// A choice of quality with a button that trains.
export function qualities(project, choices, place, title) {
  const chosen = project.training ?? choices.trainings[0].key;
  const radios = choices.trainings.map(({ key, title: name, explanation }) =>
    el(
      "label",
      { class: "choice" },
      el("input", { type: "radio", name: "training", value: key, checked: key === chosen }),
      el("span", {}, el("strong", {}, name), el("span", { class: "hint" }, explanation)),
    ),
  );
  const start = el("button", { type: "submit", class: "primary" }, title);
  const form = el("form", { class: "stack" }, el("fieldset", {}, el("legend", {}, "Quality"), radios), el("div", { class: "row" }, start));
  form.onsubmit = (event) => {
    event.preventDefault();
    const training = new FormData(form).get("training");
    busy(start, place, () => send("POST", projectAddress(project.slug, "train"), { training }));
  };
  return form;
}

export class TrainPanel {
  constructor(project, choices) {
    this.slug = project.slug;
    this.controls = new JobControls(project, "The training");
    this.quality = choices.trainings.find((one) => one.key === project.training)?.title ?? "";
    this.bar = el("progress", { max: 1, "aria-label": "Training" });
    this.line = el("p", { class: "figures" });
    this.stage = el("p", { class: "hint" });
    this.picture = el("img", { alt: "A frame that the training has not seen: filmed on the left, rendered on the right" });
    this.figure = el("figure", { hidden: true }, this.picture, el("figcaption", { class: "hint pair" }, el("span", {}, "Filmed"), el("span", {}, "Rendered now")));
    this.other = el("details", {}, el("summary", {}, "Train with another quality"), qualities(project, choices, this.controls.error, "Start anew"));
    this.node = el("div", { class: "train" }, el("div", { class: "stack" }, this.stage, this.bar, this.line, this.controls.node, this.other), this.figure);
    this.shown = null;
    this.quarter = 0;
  }

  update({ job }) {
    const running = job.state === "running";
    const packing = job.step === "pack";
    const share = job.total ? job.done / job.total : null;
    if (packing && running) this.bar.removeAttribute("value");
    else if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = share;
    this.bar.hidden = !running && share === null;
    const steps = job.total ? `Step ${job.done} of ${job.total}` : "Getting ready: about half a minute";
    const left = running && job.total && !packing ? `, ${timeLeft(job.seconds_left)}` : "";
    setText(this.line, packing ? "Packing the talker" : steps + left);
    const stage = STAGES[job.stage];
    setText(this.stage, [this.quality, stage].filter(Boolean).join(". "));
    if (job.picture && job.picture !== this.shown) {
      this.shown = job.picture;
      this.picture.src = `${projectAddress(this.slug, "picture")}?v=${job.picture}`;
      this.figure.hidden = false;
    }
    this.other.hidden = running;
    const quarter = share === null ? 0 : Math.floor(share * 4);
    if (running && quarter !== this.quarter) announce(`${quarter * 25} percent trained`);
    this.quarter = quarter;
    this.controls.update(job);
  }

  leave() {}
}
