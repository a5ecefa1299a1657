/**
 * Fanfare's client, for browsers and for Node: follows topics over Server-Sent Events, and does what a plain `EventSource`
 * cannot: change the topics of an open stream, drop repeats, renew its token, notice silence, say why it was refused.
 *
 *     import { connect } from "/fanfare.js";
 *     const live = connect().subscribe("live:42");
 *     live.on("event", ({ type, data }) => show(type, data));
 *
 * What all of it means is in types.d.ts.
 */
import { Blocks } from "./fanfare/blocks.js";
import { Latency } from "./fanfare/latency.js";
import { start } from "./fanfare/past.js";
import { Seen } from "./fanfare/seen.js";
import { Server, answerOf, backoff, parse, passing, sleep } from "./fanfare/server.js";
import { Handlers, Subscription } from "./fanfare/subscription.js";

/**
 * @typedef {import("./types.d.ts").Event} Event
 * @typedef {import("./types.d.ts").Gap} Gap
 * @typedef {import("./types.d.ts").Options} Options
 * @typedef {import("./types.d.ts").State} State
 * @typedef {import("./types.d.ts").StateChange} StateChange
 * @typedef {import("./fanfare/server.js").Answer} Answer
 */

const RETRY_MS_MAX = 300_000;
// `connected` comes a second after the request at the latest; the rest is for slow networks.
const CONNECT_MS_MAX = 20_000;
// A stream that lived shorter than this does not count as a success, or a server that falls over at once is hammered.
const STABLE_MS = 10_000;
// Heartbeats may come a quarter late; after two of them are missed the connection is dead.
const HEARTBEATS_MISSED_MAX = 2;
const TAPS_MS = 250;
const TAPS_MAX = 100;
// Types of which a server tells the newest value to each new subscriber: it is told once for all subscriptions of a topic.
const LATEST = new Set(["likes", "viewers", "receipt", "presence", "rules"]);
const LATEST_MAX = 256;

/** As the server writes a topic: two spellings are one (RFC 3986, 6.2.2). @param {string} topic */
const normal = (topic) => topic.replace(/%[0-9a-f]{2}/gi, (escape) => {
  const character = String.fromCharCode(parseInt(escape.slice(1), 16));
  return /[\w.~-]/.test(character) ? character : escape.toUpperCase();
});

/** What is known of a topic that is wanted. */
class Topic {
  /** @type {Set<Subscription>} */ subscriptions = new Set();
  seen = new Seen();
  /** By type and key. @type {Map<string, Event>} */ newest = new Map();
}

class Connection {
  /** @type {Options} */ #options;
  /** @type {Server} */ #server;
  /** @type {Latency} */ #latency;
  #handlers = new Handlers();
  /** What is wanted. @type {Map<string, Topic>} */ #topics = new Map();
  /** What the open stream has. @type {Set<string>} */ #served = new Set();
  /** The newest values of topics that nobody wants and the open stream has still. @type {Map<string, Topic["newest"]>} */ #left = new Map();
  /** What a stream had before, so is not what the server refuses. @type {Set<string>} */ #good = new Set();
  /** What a stream is asked for where not everything can be had. @type {Set<string> | undefined} */ #only;
  /** @type {State} */ #state = "connecting";
  #ended = false;
  #abort = new AbortController();
  // Counts attempts to have a stream. Whoever waited, and finds that it has changed, speaks of a stream long gone.
  #run = 0;
  /** The run whose topics are being changed. */ #syncing = 0;
  #attempts = 0;
  #openedAt = 0;
  #notBefore = 0;
  /** The last `retry:` line, in ms. */ #pauseMs = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #connection = "";
  #heartbeatMs = Infinity;
  #heardAt = 0;
  /** The last `id:` line, from where to resume. */ #position = "";
  /** Types of which every event is wanted. @type {Set<string>} */ #all;
  /** Whether a fresh token was refused. */ #asked = false;
  /** By video and reaction. @type {Map<string, number>} */ #taps = new Map();
  #closed = new AbortController();

  /** @param {string} url @param {Options} options */
  constructor(url, options) {
    this.#options = options;
    this.#server = new Server(url, options);
    this.#latency = new Latency(this.#server, options.sample ?? 0.01);
    this.#all = new Set(options.all);
    const listen = (/** @type {string} */ name, /** @type {(event: any) => void} */ act) =>
      globalThis.addEventListener?.(name, act, { signal: this.#closed.signal });
    // A socket that outlived a time offline, or in the back-forward cache, can be dead without an error.
    listen("online", () => this.#soon());
    listen("pageshow", (event) => { if (event.persisted) this.#soon(); });
    listen("pagehide", () => this.#latency.flush());
    // Timers of a hidden page are late, and those of a device that slept.
    listen("visibilitychange", () => { if (this.#state === "open") this.#watch(); });
    this.#connect();
  }

  get state() { return this.#state; }

  get latency() { return this.#latency.newest; }

  /** @type {import("./types.d.ts").Connection["on"]} */
  on(name, handler) { return this.#handlers.on(name, handler); }

  /** @param {string} name @param {import("./types.d.ts").SubscribeOptions} options */
  subscribe(name, options = {}) {
    if (this.#ended) throw new Error("The connection is closed.");
    if (options.from !== undefined) start(options.from);
    const normalName = normal(name), topic = this.#topics.get(normalName) ?? new Topic();
    const subscription = new Subscription(normalName, options, (left) => this.#leave(left));
    topic.subscriptions.add(subscription);
    this.#topics.set(normalName, topic);
    if (this.#state === "open" && this.#served.has(normalName)) {
      topic.newest = this.#left.get(normalName) ?? topic.newest;
      this.#left.delete(normalName);
      // The server has told what is newest; handlers are there in a moment.
      queueMicrotask(() => {
        if (this.#state !== "open") return;
        subscription.moved({ state: "open" });
        for (const event of topic.newest.values()) subscription.take(event);
        subscription.begin(this.#server);
      });
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
    if (this.#ended) return;
    this.#attempts = 0;
    this.#asked = false;
    this.#connect();
  }

  close() {
    if (this.#ended) return;
    this.#ended = true;
    this.#latency.close();
    this.#stop();
    this.#closed.abort();
    this.#set("closed");
  }

  // ---- the life of a stream

  async #connect() {
    this.#stop();
    const run = this.#run;
    this.#timer = setTimeout(() => this.#retry({ detail: "The server did not answer in time." }), CONNECT_MS_MAX);
    if (this.#state !== "connecting") this.#set("reconnecting");
    try {
      await this.#server.token();
    } catch (error) {
      if (run === this.#run) this.#retry({ detail: `No token could be had: ${error}` });
      return;
    }
    // Topics that are added in the same turn go with the request.
    await null;
    if (run !== this.#run) return;
    const topics = [...this.#topics.keys()].filter((topic) => this.#only?.has(topic) ?? true);
    const query = new URLSearchParams(topics.map((topic) => ["topic", topic]));
    for (const type of this.#all) query.append("all", type);
    if (this.#options.member) query.set("member", this.#options.member);
    // In the query, since a header of this name would have a browser ask another origin twice.
    if (this.#position) query.set("last_event_id", this.#position);
    try {
      const response = await this.#server.fetch(`/v1/events?${query}`, {
        headers: { Accept: "text/event-stream" }, signal: this.#abort.signal,
      });
      if (response.status !== 200) {
        const answer = await answerOf(response);
        if (run === this.#run) this.#refused(answer, topics);
        return;
      }
      if (!response.body || !/^text\/event-stream/i.test(response.headers.get("Content-Type") ?? "")) {
        // Some network's own page, say, that wants somebody to sign in.
        if (run === this.#run) this.#retry({ status: 200, detail: "What answered is no stream." });
        return;
      }
      await this.#read(response.body.getReader(), run, topics);
    } catch { /* It broke, or was given up. */ }
    if (run === this.#run) this.#retry();
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader @param {number} run @param {string[]} topics */
  async #read(reader, run, topics) {
    const blocks = new Blocks();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || run !== this.#run) return;
      this.#heardAt = Date.now();
      for (const { name, data, id, retry } of blocks.push(value)) {
        if (retry !== undefined) this.#pauseMs = Math.min(RETRY_MS_MAX, retry);
        if (id !== undefined) this.#position = id;
        const parsed = parse(data);
        if (parsed !== null) this.#hear(name, parsed, id !== undefined, topics);
        if (run !== this.#run) return;
      }
    }
  }

  /** @param {string} name @param {any} data @param {boolean} placed @param {string[]} topics */
  #hear(name, data, placed, topics) {
    if (name === "message") this.#receive(data, placed);
    else if (name === "connected") this.#opened(data, topics);
    else if (name === "gap") this.#lacks(data);
    else if (name === "token") {
      this.#handlers.emit("token", data);
      this.#renew();
    } else if (name === "bye") {
      if (data.reason === "token") this.#server.forget();
      this.#retry({ retryMs: data.retry_ms });
      this.#handlers.emit("bye", data);
    }
  }

  /** @param {any} data @param {string[]} topics */
  #opened(data, topics) {
    const run = this.#run;
    this.#connection = data.connection;
    this.#heartbeatMs = data.heartbeat_ms ?? Infinity;
    this.#openedAt = Date.now();
    this.#latency.begin();
    this.#left.clear();
    this.#served = new Set(topics);
    this.#good = new Set(topics);
    this.#asked = false;
    this.#watch();
    this.#set("open");
    if (run === this.#run) this.#begin(topics);
    if (run === this.#run) this.#handlers.emit("connected", data);
    if (run === this.#run) this.#sync();
  }

  /** Gives a stream up that has been silent for too long, and looks again when that could be. */
  #watch() {
    clearTimeout(this.#timer);
    if (!Number.isFinite(this.#heartbeatMs)) return;
    const left = this.#heardAt + HEARTBEATS_MISSED_MAX * this.#heartbeatMs - Date.now();
    if (left <= 0) this.#retry({ detail: "The server fell silent." });
    else this.#timer = setTimeout(() => this.#watch(), left);
  }

  /** Lets go of the stream, and of everybody who waits on its behalf. */
  #stop() {
    this.#run++;
    clearTimeout(this.#timer);
    this.#abort.abort();
    this.#abort = new AbortController();
  }

  /** Connects after a while: the backoff, and not before what the server asked for. @param {Partial<Answer>} answer */
  #retry({ retryMs, status, detail } = {}) {
    this.#stop();
    if (this.#openedAt > 0 && Date.now() - this.#openedAt >= STABLE_MS) this.#attempts = 0;
    this.#openedAt = 0;
    const cut = retryMs === undefined, asked = Math.max(0, Math.min(RETRY_MS_MAX, cut ? this.#pauseMs : Number(retryMs) || 0));
    // The server's `retry:` is another one for each client, so it spreads those that were cut; from then on chance does.
    const spread = cut && this.#pauseMs > 0 && this.#attempts === 0;
    const wait = spread ? asked : Math.max(asked, backoff(this.#attempts));
    this.#attempts++;
    this.#notBefore = Date.now() + asked;
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#set("reconnecting", { retryMs: wait, status, detail });
  }

  /** What held the stream back may be over. */
  #soon() {
    if (this.#state === "closed") return;
    this.#attempts = 0;
    this.#retry({ retryMs: this.#notBefore - Date.now() });
  }

  /** What was asked for is not given. @param {Answer} answer @param {string[]} topics */
  #refused(answer, topics) {
    const { status, detail } = answer;
    if (status === 401 && this.#server.renews && !this.#asked) {
      // The token may have ended while this device slept. Once is enough: a fresh one that is refused stays refused.
      this.#asked = true;
      this.#server.forget();
      this.#retry(answer);
    } else if (passing(status)) {
      this.#retry(answer);
    } else if ((status === 400 || status === 403) && topics.length > 0 && this.#all.size === 0) {
      // One topic refuses the whole request: what was good before goes on, and the others are added one by one.
      const good = topics.filter((topic) => this.#good.has(topic)), none = good.length === topics.length;
      this.#only = new Set(none ? [] : good);
      // What is added to a stream begins anew.
      if (none) for (const topic of good) this.#lacks({ topic, after: this.#position || null });
      this.#connect();
    } else {
      this.#stop();
      this.#set("closed", { status, detail });
    }
  }

  /** @param {State} state @param {Partial<StateChange>} more */
  #set(state, more = {}) {
    if (state === this.#state && more.retryMs === undefined) return;
    this.#state = state;
    const change = { state, ...more };
    for (const [name, { subscriptions }] of this.#topics) {
      if (state === "open" && !this.#served.has(name)) continue;
      for (const subscription of [...subscriptions]) subscription.moved(change);
    }
    this.#handlers.emit("state", change);
  }

  // ---- topics

  /** @param {Subscription} subscription */
  #leave(subscription) {
    const topic = this.#topics.get(subscription.topic);
    topic?.subscriptions.delete(subscription);
    if (topic?.subscriptions.size !== 0) return;
    this.#topics.delete(subscription.topic);
    this.#left.set(subscription.topic, topic.newest);
    this.#changed();
  }

  /** These are on the stream. @param {Iterable<string>} topics */
  #begin(topics) {
    for (const topic of topics) {
      for (const subscription of [...this.#topics.get(topic)?.subscriptions ?? []]) {
        subscription.moved({ state: "open" });
        subscription.begin(this.#server);
      }
    }
  }

  #changed() {
    if (this.#state === "open") this.#sync();
    // What was refused was another set of topics.
    else if (this.#state === "closed") this.reconnect();
  }

  /** Changes the open stream's topics until they are what is wanted, one request at a time. */
  async #sync() {
    const run = this.#run;
    if (this.#syncing === run) return;
    this.#syncing = run;
    await null;
    for (let tries = 0, most = Infinity; run === this.#run;) {
      const add = [...this.#topics.keys()].filter((topic) => !this.#served.has(topic)).slice(0, most);
      const remove = [...this.#served].filter((topic) => !this.#topics.has(topic));
      if (add.length + remove.length === 0) {
        this.#syncing = 0;
        this.#only = undefined;
        return;
      }
      if (add.length > 0) this.#latency.begin();
      const answer = await this.#server.post(this.#path("topics"), { add, remove });
      if (run !== this.#run) return;
      if (answer.status === 200) {
        for (const topic of add) this.#served.add(topic), this.#good.add(topic), this.#only?.add(topic);
        for (const topic of remove) this.#served.delete(topic), this.#good.delete(topic), this.#left.delete(topic);
        this.#begin(add);
        tries = 0;
      } else if (passing(answer.status)) {
        await sleep(Math.max(answer.retryMs, backoff(tries++)));
      } else if (answer.status === 412 || answer.status === 401 || add.length === 0) {
        // The connection is gone, or its token: a new stream has the full set.
        this.#retry(answer);
      } else if (add.length > 1) {
        // One forbidden topic refuses the whole request; alone, the others are taken.
        most = 1;
      } else {
        const refused = this.#topics.get(add[0])?.subscriptions ?? [];
        this.#topics.delete(add[0]);
        for (const subscription of refused) subscription.end({ status: answer.status, detail: answer.detail });
      }
    }
  }

  // ---- events

  /** @param {Event} event @param {boolean} placed whether it had an `id:` line */
  #receive(event, placed) {
    // Events of a removed topic can be on their way still.
    const topic = this.#topics.get(event.topic);
    if (!topic?.seen.take(event, placed)) return;
    this.#latency.measure(event.at);
    if (LATEST.has(event.type)) {
      const { newest } = topic, name = `${event.type} ${event.key ?? ""}`;
      newest.delete(name);
      newest.set(name, event);
      if (newest.size > LATEST_MAX) newest.delete(/** @type {string} */ (newest.keys().next().value));
    }
    for (const subscription of [...topic.subscriptions]) subscription.take(event);
    this.#handlers.emit("event", event);
  }

  /** @param {Gap} gap */
  #lacks(gap) {
    for (const subscription of [...this.#topics.get(gap.topic)?.subscriptions ?? []]) subscription.lacks(gap);
    this.#handlers.emit("gap", gap);
  }

  // ---- requests

  /** Renews an open stream's rights. */
  async #renew() {
    const run = this.#run;
    if (!this.#server.renews) return;
    for (let tries = 0; run === this.#run; tries++) {
      const token = await this.#server.fresh().catch(() => undefined);
      if (run !== this.#run) return;
      const answer = token === undefined ? { status: 0, retryMs: 0 } : await this.#server.post(this.#path("token"), { token });
      if (run !== this.#run || answer.status === 204) return;
      // Gone, or the token of another member: only a new stream can have it.
      if (!passing(answer.status)) this.#retry(answer);
      // If it stays away until the token ends, `bye` says so.
      else await sleep(Math.max(answer.retryMs, backoff(tries)));
    }
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

  /** @param {string} what */
  #path(what) { return `/v1/connections/${encodeURIComponent(this.#connection)}/${what}`; }
}

/** @type {typeof import("./types.d.ts").connect} */
export const connect = (url, options = {}) => new Connection(url ?? location.origin, options);
