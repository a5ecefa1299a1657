// What the page reads: snapshots as a stream, settings and happenings as answers. EventSource sends no Authorization, so the
// stream is read by fetch.

import { blocksOf } from "./fanfare/blocks.js";

const SECRET = "fanfare.cluster-secret";
/** A snapshot comes each second: after so long without one the connection is as good as gone. */
const SILENCE_MS = 5_000;
const AGAIN_MS = 2_000;
const HAPPENINGS_MS = 5_000;

/** @typedef {"waiting" | "live" | "lost" | "locked"} State */

export class Feed {
  #secret = sessionStorage.getItem(SECRET) ?? "";
  /** @type {AbortController | undefined} */ #stream;
  #settings = -1;

  /**
   * @param {{onState: (state: State, why: string) => void, onSnapshot: (snapshot: any) => void,
   *   onSettings: (answer: any) => void, onHappenings: (answer: any[] | string) => void}} to
   */
  constructor(to) {
    this.to = to;
  }

  get hasSecret() {
    return this.#secret !== "";
  }

  /** From now on this one is shown; none is forgotten. @param {string} secret */
  use(secret) {
    this.#secret = secret;
    if (secret) sessionStorage.setItem(SECRET, secret);
    else sessionStorage.removeItem(SECRET);
    this.#stream?.abort();
    this.start();
  }

  /** Reads until the secret is refused; begins again whenever the stream ends. */
  async start() {
    const stream = this.#stream = new AbortController();
    this.to.onState("waiting", "connecting");
    this.#happen(stream.signal);
    while (!stream.signal.aborted) {
      const why = await this.#read(stream.signal);
      if (stream.signal.aborted) return;
      if (why === undefined) {
        stream.abort();
        return this.to.onState("locked", this.hasSecret ? "This node refuses that secret." : "");
      }
      this.to.onState("lost", why);
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  /** @param {string} path @param {AbortSignal} signal */
  #fetch(path, signal) {
    const headers = this.#secret ? { Authorization: `Bearer ${this.#secret}` } : undefined;
    return fetch(path, { headers, signal, cache: "no-store", credentials: "omit" });
  }

  /** Why the stream ended; nothing where it wants another secret. @param {AbortSignal} all */
  async #read(all) {
    const one = new AbortController(), signal = AbortSignal.any([all, one.signal]);
    let silence = setTimeout(() => one.abort(), SILENCE_MS);
    try {
      const response = await this.#fetch("/v1/watch", signal);
      if (response.status === 401) return undefined;
      const pieces = blocksOf(response);
      if (!pieces) return await problem(response);
      for await (const blocks of pieces) {
        clearTimeout(silence);
        silence = setTimeout(() => one.abort(), SILENCE_MS);
        const newest = blocks.filter((block) => block.name === "snapshot").pop();
        if (newest) this.#take(JSON.parse(newest.data), all);
      }
      return "the node ended the stream";
    } catch (error) {
      if (one.signal.aborted) return "the node says nothing";
      return error instanceof SyntaxError ? "the node's answer is not what this page knows" : "the node cannot be reached";
    } finally {
      clearTimeout(silence);
      one.abort();
    }
  }

  /** @param {any} snapshot @param {AbortSignal} signal */
  #take(snapshot, signal) {
    this.to.onState("live", "live");
    this.to.onSnapshot(snapshot);
    if (snapshot.settings !== this.#settings) {
      this.#settings = snapshot.settings;
      this.#fetch("/v1/settings", signal).then(async (response) => {
        if (response.ok) this.to.onSettings(await response.json());
      }).catch(() => { this.#settings = -1; });
    }
  }

  /** @param {AbortSignal} signal */
  async #happen(signal) {
    while (!signal.aborted) {
      try {
        const response = await this.#fetch("/v1/happenings?limit=100", signal);
        if (response.ok) this.to.onHappenings((await response.json()).happenings ?? []);
        else if (response.status !== 401) this.to.onHappenings(response.status === 404 ? "This node keeps no warnings: its log has them." : await problem(response));
      } catch {
        // The stream says that the node is away.
      }
      await new Promise((resolve) => setTimeout(resolve, HAPPENINGS_MS));
    }
  }
}

/** @param {Response} response */
async function problem(response) {
  const answer = await response.json().catch(() => ({}));
  return answer.detail ?? `the node answers ${response.status}`;
}
