// The page of one project: its steps on top, and the panel of the present one.

import { projectAddress, send } from "./api.js";
import { busy, confirmed, el, errorLine, setText } from "./dom.js";
import { ProcessPanel, ReportPanel, TrainPanel, qualities } from "./job_panels.js";
import { VideoPanel } from "./video_panel.js";

const STEPS = [
  ["consent", "Consent"],
  ["video", "Video"],
  ["process", "Data set"],
  ["report", "Report"],
  ["train", "Training"],
  ["ready", "Talk"],
];

const TITLES = {
  video: "The video",
  process: "The video becomes a data set",
  report: "Is the video good?",
  train: "The head learns to speak",
  ready: "It speaks",
};

export function stepper(phase) {
  const now = STEPS.findIndex(([key]) => key === phase);
  const items = STEPS.map(([, title], index) =>
    el(
      "li",
      { class: index < now ? "done" : index === now ? "now" : "", "aria-current": index === now ? "step" : null },
      el("span", { class: "number", "aria-hidden": "true" }, index < now ? "\u2713" : index + 1),
      el("span", {}, title),
      index < now ? el("span", { class: "visually-hidden" }, " (done)") : null,
    ),
  );
  return el("ol", { class: "stepper", "aria-label": "Steps" }, items);
}

class ReadyPanel {
  constructor(project, choices) {
    this.error = errorLine();
    const free = el("button", { type: "button" }, "Delete recording and training data");
    free.onclick = async () => {
      const text = "The talker stays. Training it further or again then needs a new recording.";
      if (!(await confirmed("Delete recording and training data?", text, "Delete"))) return;
      await busy(free, this.error, () => send("POST", projectAddress(project.slug, "free-space")));
    };
    this.node = el(
      "div",
      { class: "stack" },
      el("p", {}, "The talker is in the library."),
      el("div", { class: "row" }, el("a", { class: "button primary", href: `#/talker/${encodeURIComponent(project.slug)}` }, "Let it speak")),
      project.has_report
        ? el("details", {}, el("summary", {}, "Train it again"), qualities(project, choices, this.error, "Train again"))
        : el("p", { class: "hint" }, "Recording and training data are deleted."),
      project.has_recording ? el("div", { class: "row" }, free) : null,
      this.error,
    );
  }

  update() {}

  leave() {}
}

const PANELS = { video: VideoPanel, process: ProcessPanel, report: ReportPanel, train: TrainPanel, ready: ReadyPanel };

export class MakingView {
  constructor(slug, choices) {
    this.slug = slug;
    this.choices = choices;
    this.title = el("h1", { tabindex: -1 });
    this.subtitle = el("p", { class: "hint" });
    this.steps = el("div", {});
    this.heading = el("h2", {});
    this.place = el("div", {});
    this.error = errorLine();
    this.remove = el("button", { type: "button", class: "danger quiet" }, "Delete this project");
    this.remove.onclick = () => this.deleteIt();
    this.node = el(
      "div",
      {},
      el("p", {}, el("a", { href: "#/" }, "All talkers")),
      this.title,
      this.subtitle,
      this.steps,
      el("section", { class: "card" }, this.heading, this.place),
      el("div", { class: "row" }, this.remove),
      this.error,
    );
    this.key = null;
    this.panel = null;
  }

  async deleteIt() {
    const text = "Recording, data set and training are deleted for good. A finished talker stays in the list.";
    if (!(await confirmed("Delete this project?", text, "Delete"))) return;
    const gone = await busy(this.remove, this.error, async () => {
      await send("DELETE", projectAddress(this.slug));
      return true;
    });
    if (gone) location.hash = "#/";
  }

  update(state) {
    const project = state.projects.find((one) => one.slug === this.slug);
    if (!project) {
      this.panel?.leave();
      this.panel = this.key = null;
      setText(this.title, "There is no such project");
      this.place.replaceChildren(el("p", {}, "It may have been deleted."));
      return;
    }
    setText(this.title, project.name);
    setText(this.subtitle, `Consent: ${project.consent}`);
    document.title = `${project.name} - Studio`;
    // A panel stays as long as its phase: its camera, file or frame must not be lost by an update.
    const key = `${project.phase} ${project.phase === "ready" ? project.has_recording : ""}`;
    if (key !== this.key) {
      this.panel?.leave();
      this.key = key;
      this.panel = new PANELS[project.phase](project, this.choices);
      this.steps.replaceChildren(stepper(project.phase));
      setText(this.heading, TITLES[project.phase]);
      this.place.replaceChildren(this.panel.node);
    }
    this.panel.update(project);
  }

  leave() {
    this.panel?.leave();
  }
}
