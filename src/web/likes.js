// Likes: the totals that the page shows, and what this member pressed. No drawing here.
import { request } from "./api.js";

/** @type {import("./context.js").Reaction[]} */
export const REACTIONS = ["like", "celebrate", "support", "love", "insightful", "funny"];

// Messages within this time of each other are taken in the order they arrive, since clocks of nodes differ and likes
// that are stored together need not be stored in the order they were accepted. Beyond it, `at` decides.
const CLOCK_SLACK_MS = 1_000;
const RETRIES_MAX = 6;

/** @typedef {{total: number, at: number, snapshotAt: number, lowered: boolean}} Entry */

/** Totals a reaction. Messages may be late, merged or repeated; the total shown never goes back because of one. */
export class Tally {
  /** @type {Map<string, Entry>} */ #totals = new Map();
  #openedAt = 0;

  /** @param {string} reaction @returns {Entry} */
  #entry(reaction) {
    let entry = this.#totals.get(reaction);
    if (!entry) this.#totals.set(reaction, (entry = { total: 0, at: 0, snapshotAt: 0, lowered: false }));
    return entry;
  }

  /** @param {string} reaction */
  get(reaction) { return this.#totals.get(reaction)?.total ?? 0; }

  get sum() {
    let sum = 0;
    for (const { total } of this.#totals.values()) sum += total;
    return sum;
  }

  /**
   * A stream opened at this server time, and totals are asked for. Until now may have been sent: the newest `unlike`, of
   * whatever time, with a total that later likes have passed. The totals know of it.
   * @param {number} at
   */
  opened(at) { this.#openedAt = at; }

  /**
   * What `GET …/likes` answered to a request sent at `sentAt` (server time): newer events win over it.
   * @param {Record<string, number>} reactions @param {number} sentAt
   */
  snapshot(reactions, sentAt) {
    for (const reaction of new Set([...REACTIONS, ...this.#totals.keys(), ...Object.keys(reactions)])) {
      const entry = this.#entry(reaction), total = reactions[reaction] ?? 0;
      if (entry.at < sentAt - CLOCK_SLACK_MS) {
        entry.total = total;
        entry.lowered = false;
      } else if (!entry.lowered) {
        entry.total = Math.max(entry.total, total);
      }
      entry.snapshotAt = sentAt;
    }
  }

  /**
   * A `like`: raises the total. It lowers it only if it is clearly newer than what is shown, which heals a missed `unlike`.
   * @param {string} reaction @param {number} total @param {number} at
   */
  like(reaction, total, at) {
    const entry = this.#entry(reaction);
    const late = entry.lowered && at < entry.at;
    const newer = at > Math.max(entry.at, entry.snapshotAt) + CLOCK_SLACK_MS;
    if (!late && (total > entry.total || newer)) {
      entry.total = total;
      entry.lowered = false;
    }
    entry.at = Math.max(entry.at, at);
  }

  /**
   * So many likes came within one event that has another reaction's total.
   * @param {string} reaction @param {number} count @param {number} at
   */
  more(reaction, count, at) {
    const entry = this.#entry(reaction);
    if (at > Math.max(entry.snapshotAt, entry.lowered ? entry.at : 0)) entry.total += count;
    entry.at = Math.max(entry.at, at);
  }

  /**
   * An `unlike`: lowers the total, if it is newer than what was last applied. A client that lags may be sent it behind
   * newer likes, and a new subscriber is sent one of any age.
   * @param {string} reaction @param {number} total @param {number} at
   */
  unlike(reaction, total, at) {
    const entry = this.#entry(reaction);
    if (at < entry.at || at < this.#openedAt || at < entry.snapshotAt - CLOCK_SLACK_MS) return;
    entry.total = total;
    entry.at = at;
    entry.lowered = true;
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
