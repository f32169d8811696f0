// Elements, announcements and the words of numbers. Text is always set as text, never as markup.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function announce(text) {
  setText(document.querySelector("#status"), text);
}

export function bytes(count) {
  if (count === null || count === undefined) return "";
  return count < 1e6 ? `${Math.max(1, Math.round(count / 1e3))} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function timeLeft(seconds) {
  if (seconds === null || seconds === undefined) return "time left not known yet";
  if (seconds < 50) return "less than a minute left";
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `about ${minutes} min left` : `about ${(minutes / 60).toFixed(1)} h left`;
}

export function day(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

// Runs `work` while a button is off; what goes wrong is said in `place`.
export async function busy(button, place, work) {
  button.disabled = true;
  setText(place, "");
  try {
    return await work();
  } catch (error) {
    setText(place, error.message);
    announce(error.message);
    return undefined;
  } finally {
    button.disabled = false;
  }
}

export function confirmed(title, text, yes) {
  const dialog = document.querySelector("#confirm");
  setText(dialog.querySelector("#confirm-title"), title);
  setText(dialog.querySelector("#confirm-text"), text);
  setText(dialog.querySelector("#confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export const errorLine = () => el("p", { class: "error", role: "alert" });
