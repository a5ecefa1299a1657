/**
 * Fanfare's client, for browsers and for Node: follows topics over Server-Sent Events, and does what a plain `EventSource`
 * cannot: change the topics of an open stream, drop repeats, renew its token, notice silence, say why it was refused,
 * poll where a network holds streams back, and share one stream among the tabs of an origin.
 *
 *     import { connect } from "/fanfare.js";
 *     const live = connect().subscribe("live:42");
 *     live.on("event", ({ type, data }) => show(type, data));
 *
 * What all of it means is in types.d.ts.
 */
import { Latency } from "./fanfare/latency.js";
import { missed, start } from "./fanfare/past.js";
import { Server } from "./fanfare/server.js";
import { Stream } from "./fanfare/stream.js";
import { Handlers } from "./fanfare/subscription.js";
import { Tabs, possible } from "./fanfare/tabs.js";
import { Topics } from "./fanfare/topics.js";

/**
 * @typedef {import("./types.d.ts").Event} Event
 * @typedef {import("./types.d.ts").Options} Options
 * @typedef {import("./types.d.ts").State} State
 * @typedef {import("./types.d.ts").StateChange} StateChange
 * @typedef {import("./fanfare/stream.js").Message} Message
 * @typedef {import("./fanfare/tabs.js").First} First
 */

const TAPS_MS = 250;
const TAPS_MAX = 100;

class Connection {
  /** @type {Options} */ #options;
  /** @type {Server} */ #server;
  /** @type {Latency} */ #latency;
  #handlers = new Handlers();
  /** What is wanted. @type {Topics} */ #topics;
  /** Those of them that the stream has. @type {Set<string>} */ #served = new Set();
  /** @type {State} */ #state = "connecting";
  #ended = false;
  /** A stream of its own, or the part in one that is shared. @type {Stream | Tabs | undefined} */ #source;
  /** Whose stream it is; undefined: its own. @type {string | undefined} */ #group;
  /** Whether sharing was tried and will not do. */ #alone;
  /** Whether the page is put aside, and holds up no others. */ #away = false;
  /** Up to where it was told. */ #place = "";
  /** Types of which every event is wanted. @type {Set<string>} */ #all;
  /** By video and reaction. @type {Map<string, number>} */ #taps = new Map();
  #closed = new AbortController();

  /** @param {string} url @param {Options} options */
  constructor(url, options) {
    this.#options = options;
    this.#alone = options.share === false || !possible();
    this.#server = new Server(url, options, () => this.#settle());
    this.#topics = new Topics(this.#server, () => this.#changed());
    this.#latency = new Latency(this.#server, options.sample ?? 0.01);
    this.#all = new Set(options.all);
    const listen = (/** @type {string} */ name, /** @type {(event: any) => void} */ act, /** @type {any} */ target = globalThis) =>
      target?.addEventListener?.(name, act, { signal: this.#closed.signal });
    // A socket that outlived a time offline, or in the back-forward cache, can be dead without an error.
    listen("online", () => this.#source?.soon());
    listen("pageshow", (event) => { if (event.persisted && !this.#back()) this.#source?.soon(); });
    listen("pagehide", () => {
      this.#latency.flush();
      this.#leave();
    });
    listen("freeze", () => this.#leave(), globalThis.document);
    listen("resume", () => this.#back(), globalThis.document);
    // Timers of a hidden page are late, and those of a device that slept.
    listen("visibilitychange", () => this.#source?.late());
    this.#begin(this.#whose());
  }

  get state() { return this.#state; }

  get latency() { return this.#latency.newest; }

  /** @type {import("./types.d.ts").Connection["on"]} */
  on(name, handler) { return this.#handlers.on(name, handler); }

  /** @param {string} name @param {import("./types.d.ts").SubscribeOptions} options */
  subscribe(name, options = {}) {
    if (this.#ended) throw new Error("The connection is closed.");
    if (options.from !== undefined) start(options.from);
    const subscription = this.#topics.subscribe(name, options);
    if (!this.#served.has(subscription.topic)) this.#latency.begin();
    else if (this.#state === "open") {
      this.#topics.keep(subscription.topic);
      // Handlers are there in a moment.
      queueMicrotask(() => { if (this.#state === "open") this.#topics.join(subscription); });
    }
    this.#changed();
    return subscription;
  }

  /** @param {...string} types */
  all(...types) {
    this.#all = new Set(types);
    this.reconnect();
  }

  reconnect() {
    // Who is away does so when it is back.
    if (this.#ended || this.#away) return;
    this.#alone = this.#options.share === false || !possible();
    const group = this.#whose();
    if (group !== this.#group || !this.#source?.reconnect()) this.#begin(group);
  }

  close() {
    if (this.#ended) return;
    this.#ended = true;
    this.#latency.close();
    this.#source?.close();
    this.#closed.abort();
    this.#set({ state: "closed" });
  }

  // ---- whose stream

  /** Who has the same rights, in a word; undefined: nobody else, or that is not known. */
  #whose() {
    const { withCredentials = false, member } = this.#options, { who, base } = this.#server;
    if (this.#alone || this.#all.size > 0 || who === undefined) return undefined;
    return JSON.stringify(["fanfare", 1, base, withCredentials, member, who]);
  }

  /** Gives whether the stream is another one from now on. */
  #settle() {
    const group = this.#whose();
    if (this.#ended || this.#away || group === this.#group || this.#state === "closed") return false;
    this.#begin(group);
    return true;
  }

  /** @param {string | undefined} group */
  #begin(group) {
    this.#source?.close();
    this.#group = group;
    const topics = this.#topics, all = () => [...this.#all], { member } = this.#options;
    const wanted = {
      get names() { return topics.names; },
      has: (/** @type {string} */ name) => topics.has(name),
      get more() { return [...all().map((type) => ["all", type]), ...member ? [["member", member]] : []]; },
      get all() { return all().length > 0; },
    };
    const before = () => ({ state: this.#state, place: this.#place, good: new Set(this.#served) });
    const tell = (/** @type {Message} */ message) => this.#hear(message);
    if (group === undefined) this.#source = new Stream(this.#server, wanted, before(), tell);
    else {
      if (this.#state !== "connecting") this.#set({ state: "reconnecting" });
      // Who heard that may have closed it.
      if (this.#ended) return;
      const alone = () => {
        this.#alone = true;
        this.#settle();
      };
      const ended = () => {
        this.#server.forget();
        this.#settle();
      };
      this.#source = new Tabs(group, this.#server, wanted, { before, tell, enter: (first) => this.#enter(first), alone, ended });
    }
    this.#source.start();
  }

  /** A page that is put aside hears nothing, so others are not to hear through it. */
  #leave() {
    if (this.#group === undefined || this.#away || this.#state === "closed") return;
    this.#away = true;
    this.#source?.close();
  }

  /** Gives whether it was away. */
  #back() {
    if (!this.#away) return false;
    this.#away = false;
    if (!this.#settle()) this.#begin(this.#group);
    return true;
  }

  /** Whether this page may hear what another one's stream has; if so, what it missed is made up for. @param {First} first */
  async #enter({ state, connected, place }) {
    const topics = this.#topics, path = `/v1/connections/${encodeURIComponent(connected?.connection)}/topics`;
    if (state === "open" && this.#options.token === undefined) {
      // A cookie, perhaps, says who it is, and it was another one when that stream began: the server knows. A poll has no name.
      if (!connected || (await this.#server.post(path, { add: topics.names, remove: [] })).status !== 200) return false;
    }
    const lacked = [...this.#served].filter((topic) => topics.has(topic)), from = this.#place.replace(/@\d+$/, "");
    this.#served = new Set();
    await Promise.all(lacked.map(async (topic) => {
      const { events, whole } = from ? await missed(this.#server, topic, from) : { events: [], whole: false };
      if (!whole) this.#lacks({ topic, after: from || null });
      for (const event of events) if (event.shown !== false) this.#receive(event, true);
    }));
    this.#place = place;
    return true;
  }

  // ---- what it tells

  /** @param {Message} message */
  #hear(message) {
    if (this.#ended) return;
    const topics = this.#topics;
    switch (message.kind) {
      case "state": return this.#set(message.change);
      case "open": return this.#opened(message.topics, message.fresh);
      case "added": return this.#added(message.topics, message.newest);
      case "removed":
        for (const topic of message.topics) this.#served.delete(topic);
        return topics.forget(message.topics);
      case "refused": return topics.refuse(message.topic, message.answer);
      case "place": return void (this.#place = message.place);
      case "gap": return this.#lacks(message.gap);
      case "event": return this.#receive(message.event, message.placed);
      case "told":
        this.#handlers.emit(message.name, message.data);
        // Who has the stream does it by itself.
        if (message.name === "token" && this.#source instanceof Tabs && !this.#source.leads && this.#server.renews) {
          this.#server.fresh().catch(() => {});
        }
    }
  }

  /** @param {string[]} topics @param {boolean} fresh */
  #opened(topics, fresh) {
    const had = this.#served;
    if (fresh) this.#latency.begin();
    this.#topics.forget();
    this.#served = new Set(topics);
    this.#set({ state: "open" });
    // What is added to a stream begins anew.
    for (const topic of had) if (this.#topics.has(topic) && !this.#served.has(topic)) this.#lacks({ topic, after: this.#place || null });
    if (this.#state === "open") this.#topics.begin(topics);
  }

  /** @param {string[]} topics @param {Event[]} newest */
  #added(topics, newest) {
    for (const topic of topics) this.#served.add(topic);
    this.#topics.begin(topics);
    for (const event of newest) this.#receive(event, false);
  }

  /** @param {Event} event @param {boolean} [placed] */
  #receive(event, placed) {
    if (!this.#topics.isNew(event, placed)) return;
    this.#latency.measure(event.at);
    this.#topics.take(event);
    this.#handlers.emit("event", event);
  }

  /** @param {import("./types.d.ts").Gap} gap */
  #lacks(gap) {
    this.#topics.lacks(gap);
    this.#handlers.emit("gap", gap);
  }

  /** @param {StateChange} change */
  #set(change) {
    if (change.state === this.#state && change.retryMs === undefined) return;
    this.#state = change.state;
    this.#topics.moved(change, this.#served);
    this.#handlers.emit("state", change);
  }

  // ---- requests

  #changed() {
    // What was refused was another set of topics.
    if (this.#state === "closed") this.reconnect();
    else this.#source?.changed();
  }

  /** @param {string} video @param {string} [reaction] */
  tap(video, reaction = "like") {
    const key = JSON.stringify([video, reaction]), taps = this.#taps.get(key) ?? 0;
    this.#taps.set(key, Math.min(taps + 1, TAPS_MAX));
    if (taps === 0) setTimeout(() => {
      const count = this.#taps.get(key);
      this.#taps.delete(key);
      this.#server.post(`/v1/videos/${encodeURIComponent(video)}/taps`, { member: this.#options.member, reaction, count }, true);
    }, TAPS_MS);
  }
}

/** @type {typeof import("./types.d.ts").connect} */
export const connect = (url, options = {}) => new Connection(url ?? location.origin, options);
