// What one part of a page hears of a topic.
import { past } from "./past.js";

/**
 * @typedef {import("../types.d.ts").Event} Event
 * @typedef {import("../types.d.ts").From} From
 * @typedef {import("../types.d.ts").Gap} Gap
 * @typedef {import("../types.d.ts").State} State
 * @typedef {import("../types.d.ts").StateChange} StateChange
 */

/** Who wants to hear what, by name. */
export class Handlers {
  /** @type {Map<string, Set<(detail: any) => void>>} */ #handlers = new Map();

  /** @param {string} name @param {(detail: any) => void} handler @returns {() => void} ends it */
  on(name, handler) {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(handler));
    return () => { handlers.delete(handler); };
  }

  /** @param {string} name @param {any} detail */
  emit(name, detail) {
    for (const handler of [...this.#handlers.get(name) ?? []]) {
      try {
        handler(detail);
      } catch (error) {
        // A handler's mistake is reported as any other, and stops neither the stream nor another handler.
        queueMicrotask(() => { throw error; });
      }
    }
  }
}

export class Subscription {
  #handlers = new Handlers();
  /** @type {State} */ #state = "connecting";
  #ended = false;
  /** @type {Set<string> | undefined} */ #types;
  /** @type {From | undefined} */ #from;
  /** What comes while the past is read. @type {Event[] | undefined} */ #held;
  /** @type {(subscription: Subscription) => void} */ #left;

  /**
   * @param {string} topic @param {import("../types.d.ts").SubscribeOptions} options
   * @param {(subscription: Subscription) => void} left called when it is closed
   */
  constructor(topic, { types, from }, left) {
    this.topic = topic;
    this.#types = types && new Set(types);
    this.#from = from;
    this.#left = left;
    if (from !== undefined) this.#held = [];
  }

  get state() { return this.#state; }

  /** @type {import("../types.d.ts").Subscription["on"]} */
  on(name, handler) { return this.#handlers.on(name, handler); }

  close() {
    if (this.#ended) return;
    this.end({});
    this.#left(this);
  }

  // ---- for the connection

  /** For good. @param {Partial<StateChange>} why */
  end(why) {
    this.moved({ state: "closed", ...why });
    this.#ended = true;
  }

  /** @param {StateChange} change */
  moved(change) {
    if (this.#ended || (change.state === this.#state && change.retryMs === undefined)) return;
    this.#state = change.state;
    this.#handlers.emit("state", change);
  }

  /** @param {Gap} gap */
  lacks(gap) { if (!this.#ended) this.#handlers.emit("gap", gap); }

  /** @param {Event} event */
  take(event) {
    if (this.#held) this.#held.push(event);
    else if (!this.#ended && (!this.#types || this.#types.has(event.type))) this.#handlers.emit("event", event);
  }

  /** The topic is on the stream, so that between the past and the present nothing is missing. @param {import("./server.js").Server} server */
  async begin(server) {
    const from = this.#from;
    if (from === undefined) return;
    this.#from = undefined;
    const { events, whole } = await past(server, this.topic, from, () => !this.#ended);
    const held = this.#held ?? [], known = new Set(events.map(({ type, id }) => `${type} ${id}`));
    this.#held = undefined;
    if (!whole) this.lacks({ topic: this.topic, after: null });
    for (const { position, ...event } of /** @type {(Event & {position: string})[]} */ (events)) if (event.shown !== false) this.take(event);
    for (const event of held) if (event.count !== undefined || !known.has(`${event.type} ${event.id}`)) this.take(event);
  }
}
