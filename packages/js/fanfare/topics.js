// What is wanted, who hears it, and what is known of it.
import { Seen } from "./seen.js";
import { Subscription } from "./subscription.js";

/**
 * @typedef {import("../types.d.ts").Event} Event
 * @typedef {import("../types.d.ts").Gap} Gap
 * @typedef {import("../types.d.ts").StateChange} StateChange
 * @typedef {import("./server.js").Server} Server
 */

// Types of which a server tells the newest value to each new subscriber: it is told once for all subscriptions of a topic.
const LATEST = new Set(["likes", "viewers", "receipt", "presence", "rules"]);
const LATEST_MAX = 256;

/** As the server writes a topic: two spellings are one (RFC 3986, 6.2.2). @param {string} topic */
const normal = (topic) => topic.replace(/%[0-9a-f]{2}/gi, (escape) => {
  const character = String.fromCharCode(parseInt(escape.slice(1), 16));
  return /[\w.~-]/.test(character) ? character : escape.toUpperCase();
});

/** The newest values of a topic. */
export class Newest {
  /** By type and key. @type {Map<string, Event>} */ #events = new Map();

  /** @param {Event} event */
  take(event) {
    if (!LATEST.has(event.type)) return;
    const events = this.#events, name = `${event.topic} ${event.type} ${event.key ?? ""}`;
    events.delete(name);
    events.set(name, event);
    if (events.size > LATEST_MAX) events.delete(/** @type {string} */ (events.keys().next().value));
  }

  values() { return this.#events.values(); }
}

class Topic {
  /** @type {Set<Subscription>} */ subscriptions = new Set();
  seen = new Seen();
  newest = new Newest();
}

export class Topics {
  /** @type {Map<string, Topic>} */ #topics = new Map();
  /** The newest values of topics that nobody wants and the open stream has still. @type {Map<string, Newest>} */ #left = new Map();
  /** @type {Server} */ #server;
  /** @type {() => void} */ #changed;

  /** @param {Server} server @param {() => void} changed called when nobody wants a topic any more */
  constructor(server, changed) {
    this.#server = server;
    this.#changed = changed;
  }

  get names() { return [...this.#topics.keys()]; }

  /** @param {string} name */
  has(name) { return this.#topics.has(name); }

  /** @param {string} name */
  #subscriptions(name) { return [...this.#topics.get(name)?.subscriptions ?? []]; }

  /** @param {string} name @param {import("../types.d.ts").SubscribeOptions} options */
  subscribe(name, options) {
    const normalName = normal(name), topic = this.#topics.get(normalName) ?? new Topic();
    const subscription = new Subscription(normalName, options, (left) => this.#leave(left));
    topic.subscriptions.add(subscription);
    this.#topics.set(normalName, topic);
    return subscription;
  }

  /** The stream has its topic, and the server has told what is newest. @param {Subscription} subscription */
  join(subscription) {
    subscription.moved({ state: "open" });
    for (const event of this.#topics.get(subscription.topic)?.newest.values() ?? []) subscription.take(event);
    subscription.begin(this.#server);
  }

  /** What nobody wanted is wanted again, before it is off the stream. @param {string} name */
  keep(name) {
    const topic = this.#topics.get(name), left = this.#left.get(name);
    if (topic && left) topic.newest = left;
    this.#left.delete(name);
  }

  /** These are off the stream; by default all that nobody wants. @param {Iterable<string>} names */
  forget(names = [...this.#left.keys()]) { for (const name of names) this.#left.delete(name); }

  /** @param {Subscription} subscription */
  #leave(subscription) {
    const topic = this.#topics.get(subscription.topic);
    topic?.subscriptions.delete(subscription);
    if (topic?.subscriptions.size !== 0) return;
    this.#topics.delete(subscription.topic);
    this.#left.set(subscription.topic, topic.newest);
    this.#changed();
  }

  /** These are on the stream. @param {Iterable<string>} names */
  begin(names) {
    for (const name of names) {
      for (const subscription of this.#subscriptions(name)) {
        subscription.moved({ state: "open" });
        subscription.begin(this.#server);
      }
    }
  }

  /** @param {string} name @param {import("./server.js").Answer} answer */
  refuse(name, { status, detail }) {
    const refused = this.#subscriptions(name);
    this.#topics.delete(name);
    for (const subscription of refused) subscription.end({ status, detail });
  }

  /** @param {StateChange} change @param {Set<string>} served what the stream has */
  moved(change, served) {
    for (const [name, { subscriptions }] of this.#topics) {
      if (change.state === "open" && !served.has(name)) continue;
      for (const subscription of [...subscriptions]) subscription.moved(change);
    }
  }

  /** What is wanted that an event of this topic is of: the topic, and prefixes of it. @param {string} name */
  #of(name) {
    const topics = [...this.#topics].filter(([wanted]) => wanted.endsWith("*") && name.startsWith(wanted.slice(0, -1)));
    const named = this.#topics.get(name);
    return named ? [named, ...topics.map(([, topic]) => topic)] : topics.map(([, topic]) => topic);
  }

  /** @param {Gap} gap */
  lacks(gap) {
    for (const { subscriptions } of this.#of(gap.topic)) for (const subscription of [...subscriptions]) subscription.lacks(gap);
  }

  /**
   * Whether it is new, and of a topic that is wanted: events of a removed one can be on their way still.
   * @param {Event} event @param {boolean} [placed] whether it had an `id:` line; of a poll's nobody knows
   */
  isNew(event, placed) { return this.#of(event.topic).filter((topic) => topic.seen.take(event, placed)).length > 0; }

  /** @param {Event} event */
  take(event) {
    for (const { newest, subscriptions } of this.#of(event.topic)) {
      newest.take(event);
      for (const subscription of [...subscriptions]) subscription.take(event);
    }
  }
}
