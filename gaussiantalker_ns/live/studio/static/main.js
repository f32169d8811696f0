// Which view is shown, by the part of the address behind #; every view gets every new state.

import { getChoices, watch } from "./api.js";
import { el, setText } from "./dom.js";
import { HomeView, NewView } from "./home.js";
import { MakingView } from "./making.js";
import { TalkerView } from "./talker.js";

const content = document.querySelector("#content");
const lost = document.querySelector("#lost");

let view = null;
let state = null;
let choices = null;

function viewOf(hash) {
  const [where, name] = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (where === "new") return new NewView();
  if (where === "make" && name) return new MakingView(name, choices);
  if (where === "talker" && name) return new TalkerView(name, choices);
  return new HomeView();
}

function show(moveFocus) {
  if (!state || !choices) return;
  view?.leave();
  view = viewOf(location.hash);
  view.update(state);
  content.replaceChildren(view.node);
  if (moveFocus) {
    view.title.focus();
    window.scrollTo(0, 0);
  }
}

window.addEventListener("hashchange", () => show(true));
window.addEventListener("pagehide", () => view?.leave());

try {
  choices = await getChoices();
} catch (error) {
  content.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
}

watch(
  (news) => {
    state = news;
    if (view) view.update(state);
    else show(false);
  },
  (isLost) => {
    lost.hidden = !isLost;
    setText(lost, isLost ? "Connection lost, trying again" : "");
  },
);
