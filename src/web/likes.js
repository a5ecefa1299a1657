// Likes: the totals that the page shows, and what this member pressed. No drawing here.

export const REACTIONS = ["like", "celebrate", "support", "love", "insightful", "funny"];

// Messages within this time of each other are taken in the order they arrive, since clocks of nodes differ and likes
// that are stored together need not be stored in the order they were accepted. Beyond it, `at` decides.
const CLOCK_SLACK_MS = 1_000;
const RETRIES_MAX = 6;
const REQUEST_TIMEOUT_MS = 15_000;

/** Totals a reaction. Messages may be late, merged or repeated; the total shown never goes back because of one. */
export class Tally {
  #totals = new Map();

  #entry(reaction) {
    let entry = this.#totals.get(reaction);
    if (!entry) this.#totals.set(reaction, (entry = { total: 0, at: 0, snapshotAt: 0, lowered: false }));
    return entry;
  }

  get(reaction) { return this.#totals.get(reaction)?.total ?? 0; }

  get sum() {
    let sum = 0;
    for (const { total } of this.#totals.values()) sum += total;
    return sum;
  }

  /** What `GET …/likes` answered to a request sent at `sentAt` (server time): newer events win over it. */
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

  /** A `like`: raises the total. It lowers it only if it is clearly newer than what is shown, which heals a missed `unlike`. */
  like(reaction, total, at) {
    const entry = this.#entry(reaction);
    const late = entry.lowered && at < entry.at - CLOCK_SLACK_MS;
    const newer = at > Math.max(entry.at, entry.snapshotAt) + CLOCK_SLACK_MS;
    if (!late && (total > entry.total || newer)) {
      entry.total = total;
      entry.lowered = false;
    }
    entry.at = Math.max(entry.at, at);
  }

  /** An `unlike`: lowers the total, unless it is one from before what is shown, as a new subscriber is sent. */
  unlike(reaction, total, at) {
    const entry = this.#entry(reaction);
    if (at < Math.max(entry.at, entry.snapshotAt) - CLOCK_SLACK_MS) return;
    entry.total = total;
    entry.at = Math.max(entry.at, at);
    entry.lowered = true;
  }
}

// `Retry-After` is seconds or a date (RFC 9110, 10.2.3).
function retryAfterMs(response) {
  const value = response.headers.get("Retry-After");
  if (!value) return 2_000;
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1_000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(60_000, Math.max(500, ms)) : 2_000;
}

/**
 * One reaction of this member: `wanted` is what the person last pressed, `stored` what the server is known to hold.
 * At most one request is on its way; a press in the meantime changes only the wish, so quick presses cannot cross.
 */
export class Press {
  #url; #body; #changed; #running = false;

  constructor({ url, member, reaction, stored, changed }) {
    this.#url = url;
    this.#body = JSON.stringify({ member, reaction });
    this.#changed = changed;
    this.reaction = reaction;
    this.stored = this.wanted = stored;
    this.waiting = false;
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
      const problem = await this.#send(wanted);
      if (!problem) {
        this.stored = wanted;
        tries = 0;
        this.waiting = false;
        this.#changed(this, { kind: "stored" });
      } else if (problem.retryMs && ++tries < RETRIES_MAX) {
        this.waiting = true;
        this.#changed(this, { kind: "retry", detail: problem.detail, retryMs: problem.retryMs });
        // Jitter, so that a crowd turned away together does not come back together.
        await new Promise((resolve) => setTimeout(resolve, problem.retryMs * (1 + Math.random() * 0.25)));
      } else {
        this.waiting = false;
        this.wanted = this.stored;
        this.#changed(this, { kind: "failed", detail: problem.detail });
      }
    }
    // A wish taken back while its retry waited ends here, with nothing more to send.
    if (this.waiting) {
      this.waiting = false;
      this.#changed(this, { kind: "stored" });
    }
    this.#running = false;
  }

  async #send(wanted) {
    let response;
    try {
      response = await fetch(this.#url, {
        method: wanted ? "POST" : "DELETE",
        headers: { "Content-Type": "application/json" },
        body: this.#body,
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
    } catch {
      // The request may have reached the server; sending it again is safe, since the same like counts once.
      return { detail: "The server cannot be reached.", retryMs: 2_000 };
    }
    if (response.ok) return null;
    const problem = await response.json().catch(() => ({}));
    const detail = problem.detail || problem.title || `The server answered ${response.status}.`;
    const passing = response.status === 429 || response.status >= 500;
    return { detail, retryMs: passing ? retryAfterMs(response) : 0 };
  }
}
