// How long events take from publishing to receipt, by the server's clock, and the samples of it that the server is told.

/** @typedef {import("./server.js").Server} Server */

const SAMPLES_MAX = 100;
const SAMPLES_EVERY_MS = 10_000;
const PROBES = 4;
const PROBE_SPREAD_MS = 10_000;
const CLOCK_MS_MAX = 600_000;
const CLOCK_RETRY_MS = 60_000;

export class Latency {
  /** @type {Server} */ #server;
  /** @type {number} */ #share;
  #closed = false;
  /** Server time less ours, in ms. @type {number | undefined} */ #offset;
  #probeAt = 0;
  #liveFrom = 0;
  /** @type {{at: number, received: number}[]} */ #samples = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #flushTimer;
  /** Of the newest event, in ms; null before that is known. @type {number | null} */ newest = null;

  /** @param {Server} server @param {number} share the share of events that is reported, 0 to 1 */
  constructor(server, share) {
    this.#server = server;
    this.#share = share;
  }

  /** What was published before now is late for another reason: it is replayed, or the newest value of a new topic. */
  begin() { this.#liveFrom = Date.now(); }

  /** @param {number} at */
  measure(at) {
    const now = Date.now();
    if (now >= this.#probeAt) {
      // Not at once: a broadcast reaches everyone together, and they would all ask for the time together.
      this.#probeAt = Infinity;
      setTimeout(() => this.#probe(), Math.random() * PROBE_SPREAD_MS);
    }
    // In a hidden page it is the browser that is late.
    if (this.#offset === undefined || !(at - this.#offset >= this.#liveFrom) || globalThis.document?.hidden) return;
    // Below the clocks' own error a latency can come out negative.
    const received = Math.max(at, Math.round(now + this.#offset));
    this.newest = received - at;
    if (Math.random() >= this.#share || this.#samples.length >= SAMPLES_MAX) return;
    this.#samples.push({ at, received });
    this.#flushTimer ??= setTimeout(() => this.flush(), SAMPLES_EVERY_MS);
  }

  /** Asks for the server's time. It was read about half way; the shortest way leaves the least room for error. */
  async #probe() {
    let best = Infinity, offset = this.#offset;
    for (let probe = 0; probe < PROBES && !this.#closed; probe++) {
      const sent = performance.now(), { body } = await this.#server.get("/v1/time");
      if (body === null) break;
      const round = performance.now() - sent;
      if (!Number.isFinite(body.now) || round >= best) continue;
      best = round;
      offset = body.now + round / 2 - Date.now();
    }
    this.#offset = offset;
    this.#probeAt = Date.now() + (best < Infinity ? CLOCK_MS_MAX : CLOCK_RETRY_MS);
  }

  flush() {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    // Lost samples are not sent again: they are a sample.
    if (this.#samples.length > 0) this.#server.post("/v1/received", { samples: this.#samples.splice(0) }, true);
  }

  close() {
    this.flush();
    this.#closed = true;
  }
}
