// Which events came already. A resume repeats what came in the ten seconds before it, of another data center in the minute
// before it.

/** @typedef {import("../types.d.ts").Event} Event */

const SEEN_MIN = 1_000;
const SEEN_MS = 70_000;
const SEEN_MAX = 20_000;

/** What came of one topic. */
export class Seen {
  /** Names, with the server's time. @type {Map<string, number>} */ #names = new Map();
  /** Types whose events have places. @type {Set<string>} */ #placed = new Set();

  /**
   * Whether this one is new, which it then no longer is.
   * @param {Event} event
   * @param {boolean} [placed] whether it had an `id:` line, and so is of class `every`; of a poll's nobody knows
   */
  take(event, placed) {
    if (placed) this.#placed.add(event.type);
    // A sum has the id of the newest event in it, and another one may begin with the same.
    const every = this.#placed.has(event.type);
    if ((placed === false && !every) || event.count !== undefined) return true;
    // A type has one class, so with the type in its name only an event of class `every` is ever taken for a repeat.
    const names = this.#names, name = `${event.type} ${event.id}`;
    // A newest value may be given the name of an earlier one, but not its time.
    if (every ? names.has(name) : names.get(name) === event.at) return false;
    names.set(name, event.at);
    for (const [oldest, at] of names) {
      if (names.size <= SEEN_MIN || (names.size <= SEEN_MAX && at > event.at - SEEN_MS)) break;
      names.delete(oldest);
    }
    return true;
  }
}
