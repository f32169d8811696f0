// Sends a file, or a recording that still grows, in pieces; goes on where the server says.

import { Refused, address, getState, send, sendBytes } from "./api.js";

const PAUSES_MS = [500, 1000, 2000, 4000];

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class PieceSender {
  // `source()` gives the blob as it is now; `report(sent, total)` hears how far it is.
  constructor(slug, pieceBytes, source, report) {
    this.slug = slug;
    this.pieceBytes = pieceBytes;
    this.source = source;
    this.report = report;
    this.sent = 0;
    this.cancelled = false;
    this.running = null;
  }

  begin(bytes, fingerprint, kind) {
    this.sent = 0;
    return send("POST", address("uploads", this.slug), { bytes, fingerprint, kind });
  }

  // Sends what there is; one call at a time works, others wait for it.
  flush() {
    const before = this.running ?? Promise.resolve();
    this.running = before.catch(() => null).then(() => this.sendAll());
    return this.running;
  }

  async sendAll() {
    let failures = 0;
    while (!this.cancelled && this.sent < this.source().size) {
      const blob = this.source();
      const piece = blob.slice(this.sent, this.sent + this.pieceBytes);
      try {
        const url = `${address("uploads", this.slug)}?offset=${this.sent}`;
        this.sent = (await sendBytes("PUT", url, piece)).received;
        failures = 0;
        this.report(this.sent, blob.size);
      } catch (error) {
        // The server may be away for a while, or have more or less of it than this page believes.
        if (error instanceof Refused && error.status !== 409) throw error;
        await pause(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
        failures += 1;
        await this.ask(error);
      }
    }
  }

  async ask(reason) {
    let state;
    try {
      state = await getState();
    } catch {
      return; // Still away: the next piece will try again.
    }
    const upload = state.projects.find((one) => one.slug === this.slug)?.upload;
    if (!upload) throw reason;
    this.sent = upload.received;
  }

  cancel() {
    this.cancelled = true;
  }
}
