// What is true for a while: who types, who is here, how many watch. No drawing here.

// The server's word holds for 5 s, and who goes on typing says so every 3 s; a second is left for the way.
const TYPING_MS = 6_000;

/** Who types at the moment. */
export class Typists {
  /** @type {Map<string, number>} */ #until = new Map();

  /** @param {string} member @param {number} now */
  typing(member, now) { this.#until.set(member, now + TYPING_MS); }

  /** Who sent a message has ended typing it. @param {string} member */
  said(member) { this.#until.delete(member); }

  /** @param {number} now */
  list(now) {
    for (const [member, until] of this.#until) if (until <= now) this.#until.delete(member);
    return [...this.#until.keys()];
  }
}

/** "ana is typing", for as many as there are. @param {string[]} members */
export function typingText(members) {
  if (members.length === 0) return "";
  if (members.length === 1) return `${members[0]} is typing`;
  if (members.length === 2) return `${members[0]} and ${members[1]} are typing`;
  return `${members[0]}, ${members[1]} and ${members.length - 2} more are typing`;
}

/** When to say that this member types: at the first key, and then every 3 s. */
export class TypingTeller {
  #next = 0;

  /** @param {number} now @param {string} text what stands in the field @returns {boolean} */
  tells(now, text) {
    if (text.trim() === "" || now < this.#next) return false;
    this.#next = now + 3_000;
    return true;
  }

  sent() { this.#next = 0; }
}

/** The newest value by time: events may be late, and a new subscriber is sent an old one. */
export class Newest {
  /** @type {any} */ value;
  #at = -1;

  /** @param {any} value @param {number} at @returns {boolean} whether it changed */
  set(value, at) {
    if (at < this.#at) return false;
    this.#at = at;
    const changed = JSON.stringify(value) !== JSON.stringify(this.value);
    this.value = value;
    return changed;
  }
}

/** Who of the members that the page shows is online. Bounded: those that were asked for longest ago are let go. */
export class Present {
  /** @type {Map<string, Newest>} */ #members = new Map();

  /** @param {number} most members that are followed at once */
  constructor(most) { this.most = most; }

  get members() { return [...this.#members.keys()]; }

  /** @param {string} member @returns {boolean | undefined} */
  online(member) { return this.#members.get(member)?.value; }

  /**
   * Follows these as well.
   * @param {string[]} members @returns {{added: string[], dropped: string[]}}
   */
  follow(members) {
    const added = [];
    for (const member of members) {
      const known = this.#members.get(member);
      if (!known) added.push(member);
      // Last in the Map's order means: let go last.
      this.#members.delete(member);
      this.#members.set(member, known ?? new Newest());
    }
    const dropped = [...this.#members.keys()].slice(0, Math.max(0, this.#members.size - this.most));
    for (const member of dropped) this.#members.delete(member);
    return { added: added.filter((member) => this.#members.has(member)), dropped };
  }

  /** @param {string} member @param {boolean} online @param {number} at server time */
  set(member, online, at) { return this.#members.get(member)?.set(online, at) ?? false; }
}
