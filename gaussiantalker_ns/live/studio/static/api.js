// Requests to the studio and its events.

const ROOT = "/studio";

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function answer(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  let sentence = `The server answered with status ${response.status}.`;
  try {
    sentence = (await response.json()).error ?? sentence;
  } catch {
    // A proxy's own page; the status says enough.
  }
  throw new Refused(response.status, sentence);
}

export const address = (...parts) => `${ROOT}/${parts.map((part) => encodeURIComponent(part)).join("/")}`;

export const projectAddress = (slug, ...rest) => address("api", "projects", slug, ...rest);

export const talkerAddress = (name, ...rest) => address("api", "talkers", name, ...rest);

export const get = async (url) => answer(await fetch(url, { cache: "no-store" }));

export async function send(method, url, content) {
  const options = { method };
  if (content !== undefined) {
    options.headers = { "content-type": "application/json" };
    options.body = JSON.stringify(content);
  }
  return answer(await fetch(url, options));
}

export async function sendBytes(method, url, blob) {
  return answer(await fetch(url, { method, body: blob }));
}

export const getState = () => get(`${ROOT}/api/state`);
export const getChoices = () => get(`${ROOT}/api/choices`);

// Calls `show` with every new state; the browser connects again by itself after a break.
export function watch(show, setLost) {
  let source = null;
  const open = () => {
    source = new EventSource(`${ROOT}/api/events`);
    source.onmessage = (event) => {
      setLost(false);
      show(JSON.parse(event.data));
    };
    source.onerror = () => {
      setLost(true);
      // After an answer that is no stream of events, browsers give up.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    };
  };
  open();
}
