// The list of talkers and of those in the making; and the first step, consent.

import { send, talkerAddress } from "./api.js";
import { busy, bytes, day, el, errorLine } from "./dom.js";
import { stepper } from "./making.js";

const PHASES = {
  video: "Needs a video",
  process: "The video is read",
  report: "Look at the report",
  train: "In training",
};

const TROUBLE = { failed: "has failed", stopped: "stopped", interrupted: "interrupted" };

function projectCard(project) {
  const trouble = TROUBLE[project.job?.state];
  const share = project.phase === "train" && project.job?.total ? ` ${Math.floor((100 * project.job.done) / project.job.total)} %` : "";
  return el(
    "li",
    {},
    el(
      "a",
      { class: "card project", href: `#/make/${encodeURIComponent(project.slug)}` },
      el("strong", {}, project.name),
      el("span", { class: trouble ? "badge bad" : "badge" }, (PHASES[project.phase] ?? "") + share + (trouble ? `: ${trouble}` : "")),
      el("span", { class: "hint" }, `since ${day(project.created)}`),
    ),
  );
}

function talkerCard(talker) {
  const picture = talker.problem || talker.run ? el("div", { class: "no-picture", "aria-hidden": "true" }) : el("img", { src: talkerAddress(talker.name, "picture"), alt: "", loading: "lazy" });
  const consent = talker.problem ?? (talker.consent ? `Consent: ${talker.consent}` : "No consent recorded: ask the person shown.");
  return el(
    "li",
    {},
    el(
      "a",
      { class: "card talker", href: `#/talker/${encodeURIComponent(talker.name)}` },
      picture,
      el("div", { class: "talker-text" }, el("strong", {}, talker.title), el("span", { class: "hint" }, bytes(talker.bytes)), el("span", { class: talker.problem ? "error clamp" : "hint clamp" }, consent)),
    ),
  );
}

export class HomeView {
  constructor() {
    this.title = el("h1", { tabindex: -1 }, "Studio");
    this.projects = el("ul", { class: "list" });
    this.making = el("section", { "aria-labelledby": "making-title" }, el("h2", { id: "making-title" }, "In the making"), this.projects);
    this.talkers = el("ul", { class: "grid" });
    this.node = el(
      "div",
      { class: "stack wide" },
      el(
        "div",
        { class: "hero" },
        el("div", {}, this.title, el("p", {}, "A minute of video becomes a head that says whatever you want, on this machine alone.")),
        el("a", { class: "button primary", href: "#/new" }, "Make a talker"),
      ),
      this.making,
      el("section", { "aria-labelledby": "talkers-title" }, el("h2", { id: "talkers-title" }, "Talkers"), this.talkers),
    );
    this.shown = "";
    document.title = "Studio";
  }

  update(state) {
    const open = state.projects.filter((project) => project.phase !== "ready");
    const text = JSON.stringify([open.map((one) => [one.slug, one.name, one.phase, one.job?.state, Math.floor((100 * (one.job?.done ?? 0)) / (one.job?.total ?? 1))]), state.talkers.map((one) => [one.name, one.title, one.bytes, one.created])]);
    if (text === this.shown) return;
    this.shown = text;
    const place = document.activeElement?.getAttribute("href");
    this.making.hidden = open.length === 0;
    this.projects.replaceChildren(...open.map(projectCard));
    this.talkers.replaceChildren(...state.talkers.map(talkerCard));
    if (place) this.node.querySelector(`a[href="${CSS.escape(place)}"]`)?.focus();
  }

  leave() {}
}

export class NewView {
  constructor() {
    this.title = el("h1", { tabindex: -1 }, "Make a talker");
    document.title = "Make a talker - Studio";
    const name = el("input", { type: "text", id: "name", required: true, maxlength: 60, autocomplete: "off" });
    const who = ["myself", "someone"].map((value) => el("input", { type: "radio", name: "who", value, checked: value === "myself" }));
    const consent = el("textarea", { id: "consent", required: true, minlength: 12, maxlength: 500, "aria-describedby": "consent-hint" });
    const agreed = el("input", { type: "checkbox", id: "agreed", required: true });
    const go = el("button", { class: "primary", type: "submit" }, "Continue to the video");
    const error = errorLine();
    let written = false;
    const propose = () => {
      if (written) return;
      const person = name.value.trim() || "...";
      consent.value = who[0].checked
        ? `I am ${person}, I am the person in this video, and I agree that a talking head is made of me.`
        : `${person}, the person in this video, has agreed that a talking head is made of them.`;
    };
    consent.oninput = () => {
      written = true;
    };
    name.oninput = propose;
    for (const one of who) one.onchange = propose;
    propose();
    const form = el(
      "form",
      { class: "card stack" },
      el("h2", {}, "Whose head, and do they agree?"),
      el("div", { class: "field" }, el("label", { for: "name" }, "Name of the person"), name),
      el(
        "fieldset",
        {},
        el("legend", {}, "Who is filmed?"),
        el("label", { class: "choice" }, who[0], el("span", {}, "Myself")),
        el("label", { class: "choice" }, who[1], el("span", {}, "Somebody who agreed")),
      ),
      el(
        "div",
        { class: "field" },
        el("label", { for: "consent" }, "Consent statement"),
        consent,
        el("p", { class: "hint", id: "consent-hint" }, "It is kept in the data set, in the talker file, and in the record of every video. Change the words as you like."),
      ),
      el("label", { class: "choice" }, agreed, el("span", {}, "This statement is true.")),
      error,
      el("div", { class: "row" }, go, el("a", { class: "button", href: "#/" }, "Cancel")),
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      busy(go, error, async () => {
        const content = { name: name.value, consent: consent.value, agreed: agreed.checked };
        const { slug } = await send("POST", "/studio/api/projects", content);
        location.hash = `#/make/${slug}`;
      });
    };
    this.node = el("div", {}, el("p", {}, el("a", { href: "#/" }, "All talkers")), this.title, stepper("consent"), form);
  }

  update() {}

  leave() {}
}
