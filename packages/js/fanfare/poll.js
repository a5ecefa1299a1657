// Where a network holds streams back: when to poll in place of a stream, and when to try one again.

import { blocksOf } from "./blocks.js";
import { answerOf } from "./server.js";

/**
 * @typedef {import("./blocks.js").Block} Block
 * @typedef {import("./server.js").Answer} Answer
 * @typedef {import("./server.js").Server} Server
 */

/** `connected` comes a second after the request at the latest; the rest is for slow networks. */
export const CONNECTED_MS_MAX = 6_000;
/** The server answers after 25 s at the latest. */
export const POLL_MS_MAX = 32_000;
/** What is refused is refused sooner; a poll that takes longer waits, and so works. */
export const POLL_WAITS_MS = 2_000;
/** An answer without events that comes sooner than this did not wait, and whoever gives it is not to be hammered. */
const POLL_MS_MIN = 1_000;
/** A resume repeats what came so long before: what the first poll does not give would come behind what it gives. */
const RESUMED_MS = 10_000;
const TRIAL_MS = 60_000;
const TRIAL_MS_MAX = 900_000;

export class Polls {
  /** Whether polls take the place of streams. */ on = false;
  /** From when on nothing is to be missed while there is no place yet, Unix ms by the server's clock; 0 is now. */ since = 0;
  /** The topics of the newest one. @type {string[]} */ asks = [];
  #answered = false;
  #absent = false;
  /** How many topics are asked for at once that were never given: one that is refused refuses all. */ #most = Infinity;
  #trials = 0;
  #trialAt = 0;
  #expiresAt = 0;
  /** @type {AbortController | undefined} */ #trial;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** Whether a stream that is held back has something in its place. */
  get possible() { return !this.on && !this.#absent; }

  /** @param {number} since when streams began to be held back */
  begin(since) {
    this.on = true;
    this.since ||= since - RESUMED_MS;
    this.#answered = false;
    this.#most = Infinity;
    this.#postpone();
  }

  /** The network is another one, perhaps, or a stream has come through. */
  end() {
    this.on = false;
    this.#forget();
  }

  /** A stream that fell silent is held back, where others were before: polls go on. */
  silent() { if (this.possible && this.#trials > 0) this.begin(this.since); }

  /** A poll that waits for long enough, or is answered. @param {boolean} whole whether it is answered */
  works(whole) {
    this.#answered ||= whole;
    this.#most *= 2;
  }

  /** One is not answered as it should be: if none ever was, streams are no worse. @param {number | undefined} status */
  failed(status) {
    if (!this.on) return;
    // A server of an earlier version.
    this.#absent ||= status === 404;
    // Whoever says that it is too early, or that a token ended, knows what a poll is.
    if (this.#absent || (!this.#answered && (status === undefined || status === 200))) this.end();
  }

  /** What to ask for. @param {string[]} wanted @param {Set<string>} good what was given before */
  topics(wanted, good) {
    const fresh = wanted.filter((topic) => !good.has(topic)).slice(0, this.#most);
    return wanted.filter((topic) => good.has(topic) || fresh.includes(topic));
  }

  /** Whether a poll that waits is for something else. @param {string[]} wanted @param {Set<string>} good */
  stale(wanted, good) { return this.topics(wanted, good).join() !== this.asks.join(); }

  /**
   * These are refused together, those of `good` not before: gives the one whose fault it is, if that is known; else fewer are
   * asked for at once.
   * @param {string[]} topics @param {Set<string>} good @returns {string | undefined}
   */
  culprit(topics, good) {
    const fresh = topics.filter((topic) => !good.has(topic));
    if (fresh.length === 1) return fresh[0];
    if (fresh.length === 0) good.clear();
    this.#most = Math.max(1, Math.floor((fresh.length || topics.length) / 2));
  }

  /** Whether this word that a token ends is the first one of it. @param {number} expiresAt */
  ends(expiresAt) {
    const known = this.#expiresAt === expiresAt;
    this.#expiresAt = expiresAt;
    return !known;
  }

  /** How long to wait with the next one, in ms. @param {object[]} events @param {number} sentAt @param {number} retryMs */
  pause(events, sentAt, retryMs) {
    return events.length > 0 || Date.now() - sentAt >= POLL_MS_MIN ? 0 : Math.max(POLL_MS_MIN, retryMs);
  }

  /** @param {Server} server @param {URLSearchParams} query @param {AbortSignal} signal @returns {Promise<Partial<Answer>>} */
  async ask(server, query, signal) {
    try {
      return await answerOf(await server.fetch(`/v1/poll?${query}`, { signal }));
    } catch {
      return {};
    }
  }

  /**
   * Tries a stream, where it is time for that: gives the one of which `connected` has come through soon enough.
   * @param {Server} server @param {URLSearchParams} query
   */
  async stream(server, query) {
    if (Date.now() < this.#trialAt) return undefined;
    this.#postpone();
    this.#forget();
    const abort = this.#trial = new AbortController();
    this.#timer = setTimeout(() => abort.abort(), CONNECTED_MS_MAX);
    try {
      const pieces = blocksOf(await server.stream(query, abort.signal));
      /** @type {Block[] | undefined} */
      let first = [];
      while (first?.length === 0) first = (await pieces?.next())?.value ?? undefined;
      if (pieces && first?.[0].name === "connected" && abort === this.#trial) {
        clearTimeout(this.#timer);
        this.#trial = undefined;
        return { abort, pieces, first };
      }
    } catch { /* As before. */ }
    abort.abort();
    return undefined;
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#trial?.abort();
    this.#trial = undefined;
  }

  /** Less and less often, and not all clients of a network together. */
  #postpone() {
    const most = Math.min(TRIAL_MS_MAX, TRIAL_MS * 2 ** this.#trials++);
    this.#trialAt = Date.now() + (1 + Math.random()) / 2 * most;
  }
}
