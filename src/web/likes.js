// Likes: the totals that the page shows, and what this member pressed. No drawing here.
import { request } from "./api.js";

/** @type {import("./context.js").Reaction[]} */
export const REACTIONS = ["like", "celebrate", "support", "love", "insightful", "funny"];

const RETRIES_MAX = 6;

/** Totals a reaction: those that the stream tells, which are over all data centers, and those that were asked for before. */
export class Tally {
  /** @type {Map<string, number>} */ #totals = new Map();
  #told = false;
  #live = false;

  /** @param {string} reaction */
  get(reaction) { return this.#totals.get(reaction) ?? 0; }

  get sum() {
    let sum = 0;
    for (const total of this.#totals.values()) sum += total;
    return sum;
  }

  /** What a `likes` says: all of it, and the newest, whatever its time. @param {Record<string, number>} reactions */
  told(reactions) {
    this.#told = this.#live = true;
    this.#totals = new Map(Object.entries(reactions));
  }

  /** There is no stream that would tell what changes. */
  away() { this.#live = false; }

  /**
   * What `GET …/likes` answered, which is of one data center: where a stream told totals it lowers none.
   * @param {Record<string, number>} reactions
   */
  snapshot(reactions) {
    if (this.#live) return;
    const least = this.#told ? this.#totals : new Map();
    this.#totals = new Map([...least, ...Object.entries(reactions).map(([reaction, total]) =>
      /** @type {[string, number]} */ ([reaction, Math.max(total, least.get(reaction) ?? 0)]))]);
  }
}

/**
 * @typedef {{kind: "stored"} | {kind: "retry", detail: string, retryMs: number} | {kind: "failed", detail: string}} Settled
 */

/**
 * One reaction of this member: `wanted` is what the person last pressed, `stored` what the server is known to hold.
 * At most one request is on its way; a press in the meantime changes only the wish, so quick presses cannot cross.
 */
export class Press {
  #url; #body; #changed; #running = false;

  /**
   * @param {{url: string, member: string, reaction: import("./context.js").Reaction, stored: boolean,
   *   changed: (press: Press, outcome: Settled | null) => void}} of
   */
  constructor({ url, member, reaction, stored, changed }) {
    this.#url = url;
    this.#body = { member, reaction };
    this.#changed = changed;
    this.reaction = reaction;
    this.stored = this.wanted = stored;
    this.waiting = false;
    /** Draws it. */
    this.show = () => {};
  }

  toggle() {
    this.wanted = !this.wanted;
    this.#changed(this, null);
    if (!this.#running) this.#settle();
  }

  async #settle() {
    this.#running = true;
    for (let tries = 0; this.wanted !== this.stored;) {
      const wanted = this.wanted;
      // An answer that got lost may have been a success; sending it again is safe, since the same like counts once.
      const answer = await request(wanted ? "POST" : "DELETE", this.#url, this.#body);
      if (answer.ok) {
        this.stored = wanted;
        tries = 0;
        this.waiting = false;
        this.#changed(this, { kind: "stored" });
      } else if (answer.retryMs && ++tries < RETRIES_MAX) {
        this.waiting = true;
        this.#changed(this, { kind: "retry", detail: answer.detail, retryMs: answer.retryMs });
        // Jitter, so that a crowd turned away together does not come back together.
        await new Promise((resolve) => setTimeout(resolve, answer.retryMs * (1 + Math.random() * 0.25)));
      } else {
        this.waiting = false;
        this.wanted = this.stored;
        this.#changed(this, { kind: "failed", detail: answer.detail });
      }
    }
    // A wish taken back while its retry waited ends here, with nothing more to send.
    if (this.waiting) {
      this.waiting = false;
      this.#changed(this, { kind: "stored" });
    }
    this.#running = false;
  }
}
