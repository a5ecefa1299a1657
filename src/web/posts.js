// Comments and messages as the page knows them: what was listed and what the stream told, once each, in one order.
// No drawing here.

/** @typedef {{id: string, member: string, text: string, at: number}} Post */

const SHOWN_MAX = 200;
const GONE_MAX = 2_000;

export class PostLog {
  /** @type {Post[]} */ #posts = [];
  /** @type {Set<string>} */ #known = new Set();
  /** Deleted ones: a list or a replay that was made before may still have them. @type {Set<string>} */ #gone = new Set();
  /** Posts that arrived since the mark: a list asked for then may lack them. @type {Set<string> | null} */ #since = null;

  get posts() { return this.#posts; }

  /** @param {string} id */
  has(id) { return this.#known.has(id); }

  /** Where a post stands, or -1. @param {string} id */
  place(id) { return this.#known.has(id) ? this.#posts.findIndex((post) => post.id === id) : -1; }

  /** Takes a post that the stream told of, or that was stored for this member. @param {Post} post @returns {boolean} whether it is new */
  add(post) {
    if (this.#known.has(post.id) || this.#gone.has(post.id)) return false;
    this.#known.add(post.id);
    this.#since?.add(post.id);
    this.#posts.push(post);
    this.#trim();
    return true;
  }

  /** @param {string} id @returns {boolean} whether it was shown */
  remove(id) {
    this.#gone.add(id);
    // A Set keeps the order in which things were added: the oldest is forgotten.
    if (this.#gone.size > GONE_MAX) this.#gone.delete(/** @type {string} */ (this.#gone.keys().next().value));
    if (!this.#known.delete(id)) return false;
    this.#posts = this.#posts.filter((post) => post.id !== id);
    return true;
  }

  /** To be called when a list is asked for. */
  mark() { this.#since = new Set(); }

  /**
   * Takes the list that was asked for at the last mark, oldest first. It is the truth of that time: what it lacks is
   * gone, unless it arrived since.
   * @param {Post[]} list
   */
  snapshot(list) {
    const listed = list.filter(({ id }) => !this.#gone.has(id)), ids = new Set(listed.map(({ id }) => id));
    const since = this.#since ?? new Set();
    this.#posts = [...listed, ...this.#posts.filter(({ id }) => since.has(id) && !ids.has(id))];
    this.#known = new Set(this.#posts.map(({ id }) => id));
    this.#since = null;
    this.#trim();
  }

  #trim() {
    for (const { id } of this.#posts.splice(0, Math.max(0, this.#posts.length - SHOWN_MAX))) this.#known.delete(id);
  }
}

/** How far each member has read, only ever forward. */
export class Reads {
  /** @type {Map<string, {message: string, at: number}>} */ #last = new Map();
  #log;

  /** @param {PostLog} log the conversation */
  constructor(log) { this.#log = log; }

  /** @param {string} member @returns {string | undefined} */
  get(member) { return this.#last.get(member)?.message; }

  get members() { return [...this.#last.keys()]; }

  /** @param {string} member @param {string} message @param {number} at server time @returns {boolean} whether it went forward */
  read(member, message, at) {
    const before = this.#last.get(member);
    if (before?.message === message) return false;
    if (before) {
      // Where the log lacks one of the two, the later word is the further one, since the server only goes forward.
      const known = this.#log.place(before.message), told = this.#log.place(message);
      if (known >= 0 && told >= 0 ? told < known : at < before.at) return false;
    }
    this.#last.set(member, { message, at });
    return true;
  }

  /** Who has read up to just this message. @param {string} message @returns {string[]} */
  at(message) {
    return [...this.#last].filter(([, last]) => last.message === message).map(([member]) => member);
  }
}
