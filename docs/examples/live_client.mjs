// Let a head speak a wav file, save what it shows: node live_client.mjs SPEECH.wav OUT.mp4 [ADDRESS]
// Node 22 or later; the sockets are the same in a browser.
import { createWriteStream, readFileSync } from "node:fs";

const [speech, output, address = "http://127.0.0.1:8000"] = process.argv.slice(2);
const { id } = await (await fetch(`${address}/sessions`, { method: "POST", body: "{}" })).json();
const session = `${address.replace("http", "ws")}/sessions/${id}`;
const wav = readFileSync(speech); // 16-bit mono
const samples = wav.subarray(wav.indexOf("data") + 8);

const open = async (path) => {
  const socket = new WebSocket(session + path);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
  return socket;
};

const film = createWriteStream(output);
const media = await open("/media");
media.onmessage = ({ data }) => typeof data === "string" || film.write(Buffer.from(data));
const audio = await open(`/audio?rate=${wav.readUInt32LE(24)}`);
for (let start = 0; start < samples.length; start += 65536) audio.send(samples.subarray(start, start + 65536));
audio.send(JSON.stringify({ type: "flush" }));
audio.onmessage = ({ data }) => {
  if (JSON.parse(data).type !== "spoken") return;
  media.close();
  audio.close();
  film.end();
};
