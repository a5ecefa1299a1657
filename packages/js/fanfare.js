/**
 * Fanfare's client, for browsers and for Node: follows topics over Server-Sent Events, and does what a plain `EventSource`
 * cannot: change the topics of an open stream, drop repeats, renew its token, notice silence, say why it was refused, and
 * poll where a network holds streams back.
 *
 *     import { connect } from "/fanfare.js";
 *     const live = connect().subscribe("live:42");
 *     live.on("event", ({ type, data }) => show(type, data));
 *
 * What all of it means is in types.d.ts.
 */
import { blocksOf } from "./fanfare/blocks.js";
import { Latency } from "./fanfare/latency.js";
import { start } from "./fanfare/past.js";
import { CONNECTED_MS_MAX, POLL_MS_MAX, POLL_WAITS_MS, Polls } from "./fanfare/poll.js";
import { Server, answerOf, backoff, parse, passing, sleep } from "./fanfare/server.js";
import { Handlers } from "./fanfare/subscription.js";
import { Topics } from "./fanfare/topics.js";

/**
 * @typedef {import("./types.d.ts").Event} Event
 * @typedef {import("./types.d.ts").Gap} Gap
 * @typedef {import("./types.d.ts").Options} Options
 * @typedef {import("./types.d.ts").State} State
 * @typedef {import("./types.d.ts").StateChange} StateChange
 * @typedef {import("./fanfare/server.js").Answer} Answer
 * @typedef {import("./fanfare/blocks.js").Block} Block
 */

const RETRY_MS_MAX = 300_000;
const CONNECT_MS_MAX = 20_000;
const TOO_LATE = { detail: "The server did not answer in time." };
// A stream that lived shorter than this does not count as a success, or a server that falls over at once is hammered.
const STABLE_MS = 10_000;
// Heartbeats may come a quarter late; after two of them are missed the connection is dead.
const HEARTBEATS_MISSED_MAX = 2;
const TAPS_MS = 250;
const TAPS_MAX = 100;

class Connection {
  /** @type {Options} */ #options;
  /** @type {Server} */ #server;
  /** @type {Latency} */ #latency;
  #handlers = new Handlers();
  /** What is wanted. @type {Topics} */ #topics;
  /** What the open stream has. @type {Set<string>} */ #served = new Set();
  /** What a stream had before, so is not what the server refuses. @type {Set<string>} */ #good = new Set();
  /** What a stream is asked for where not everything can be had. @type {Set<string> | undefined} */ #only;
  /** @type {State} */ #state = "connecting";
  #ended = false;
  #abort = new AbortController();
  #polls = new Polls();
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
    this.#topics = new Topics(this.#server, () => this.#changed());
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
    const subscription = this.#topics.subscribe(name, options);
    if (this.#state === "open" && this.#served.has(subscription.topic)) {
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
    if (this.#ended) return;
    this.#attempts = 0;
    this.#asked = false;
    this.#connect();
  }

  close() {
    if (this.#ended) return;
    this.#ended = true;
    this.#polls.end();
    this.#latency.close();
    this.#stop();
    this.#closed.abort();
    this.#set("closed");
  }

  // ---- the life of a stream

  async #connect() {
    this.#stop();
    const run = this.#run;
    this.#timer = setTimeout(() => this.#retry(TOO_LATE), CONNECT_MS_MAX);
    // Between two polls nothing is amiss.
    if (this.#state !== "connecting" && !(this.#polls.on && this.#state === "open")) this.#set("reconnecting");
    try {
      await this.#server.token();
    } catch (error) {
      if (run === this.#run) this.#retry({ detail: `No token could be had: ${error}` });
      return;
    }
    // Topics that are added in the same turn go with the request.
    await null;
    if (run !== this.#run) return;
    if (this.#polls.on) return this.#poll();
    const topics = this.#topics.names.filter((topic) => this.#only?.has(topic) ?? true), sentAt = Date.now();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#doubt(sentAt), CONNECTED_MS_MAX);
    try {
      const response = await this.#server.stream(this.#query(topics), this.#abort.signal);
      if (response.status !== 200) {
        const answer = await answerOf(response);
        if (run === this.#run) this.#refused(answer, topics);
        return;
      }
      const blocks = blocksOf(response);
      if (!blocks) {
        // Some network's own page, say, that wants somebody to sign in.
        if (run === this.#run) this.#retry({ status: 200, detail: "What answered is no stream." });
        return;
      }
      await this.#read(blocks, run, topics);
    } catch { /* It broke, or was given up. */ }
    if (run === this.#run) this.#retry();
  }

  /** @param {string[]} topics */
  #query(topics) {
    const query = new URLSearchParams(topics.map((topic) => ["topic", topic]));
    for (const type of this.#all) query.append("all", type);
    if (this.#options.member) query.set("member", this.#options.member);
    // A poll's place says up to when newest values were shown, too, and of a topic that was not there none were.
    const place = topics.every((topic) => this.#served.has(topic)) ? this.#position : this.#position.replace(/@\d+$/, "");
    // In the query, since a header of this name would have a browser ask another origin twice.
    if (place) query.set("last_event_id", place);
    else if (this.#polls.since > 0) query.set("from", String(this.#polls.since));
    return query;
  }

  /** @param {AsyncIterable<Block[]>} pieces @param {number} run @param {string[]} topics */
  async #read(pieces, run, topics) {
    for await (const blocks of pieces) {
      if (run !== this.#run) return;
      this.#heardAt = Date.now();
      this.#take(blocks, run, topics);
    }
  }

  /** @param {Block[]} blocks @param {number} run @param {string[]} topics */
  #take(blocks, run, topics) {
    for (const { name, data, id, retry } of blocks) {
      if (run !== this.#run) return;
      if (retry !== undefined) this.#pauseMs = Math.min(RETRY_MS_MAX, retry);
      if (id !== undefined) this.#position = id;
      const parsed = parse(data);
      if (parsed !== null) this.#hear(name, parsed, id !== undefined, topics);
    }
  }

  /** @param {string} name @param {any} data @param {boolean} placed @param {string[]} topics */
  #hear(name, data, placed, topics) {
    if (name === "message") this.#receive(data, placed);
    else if (name === "connected") this.#connected(data, topics);
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
  #connected(data, topics) {
    const run = this.#run;
    this.#connection = data.connection;
    this.#heartbeatMs = data.heartbeat_ms ?? Infinity;
    this.#openedAt = 0;
    this.#opened(topics);
    if (run === this.#run) this.#handlers.emit("connected", data);
    if (run === this.#run) this.#sync();
  }

  /** A stream has these topics, or a poll. @param {string[]} topics */
  #opened(topics) {
    const run = this.#run;
    if (this.#openedAt === 0) this.#latency.begin();
    this.#openedAt ||= Date.now();
    this.#topics.forget();
    this.#served = new Set(topics);
    this.#good = new Set(topics);
    this.#asked = false;
    this.#watch();
    this.#set("open");
    if (run === this.#run) this.#topics.begin(topics);
  }

  /** Gives a stream up that has been silent for too long, and looks again when that could be. */
  #watch() {
    clearTimeout(this.#timer);
    if (!Number.isFinite(this.#heartbeatMs)) return;
    const left = this.#heardAt + HEARTBEATS_MISSED_MAX * this.#heartbeatMs - Date.now();
    if (left > 0) {
      this.#timer = setTimeout(() => this.#watch(), left);
      return;
    }
    const polled = this.#polls.on;
    this.#retry({ detail: "The server fell silent." });
    if (!polled) this.#polls.silent();
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
    this.#polls.failed(status);
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
    this.#polls.end();
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
      if (this.#polls.on) {
        const culprit = this.#polls.culprit(topics, this.#good);
        if (culprit !== undefined) this.#topics.refuse(culprit, answer);
        if (!this.#ended) this.#connect();
        return;
      }
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
    this.#topics.moved(change, this.#served);
    this.#handlers.emit("state", change);
  }

  // ---- topics

  #changed() {
    if (this.#state === "open") this.#polls.on ? this.#repoll() : this.#sync();
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
      const add = this.#topics.names.filter((topic) => !this.#served.has(topic)).slice(0, most);
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
        for (const topic of remove) this.#served.delete(topic), this.#good.delete(topic);
        this.#topics.forget(remove);
        this.#topics.begin(add);
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
        this.#topics.refuse(add[0], answer);
      }
    }
  }

  // ---- polls

  /** Nothing has come of a stream: if the server answers something else, it is held back on its way. @param {number} sentAt */
  async #doubt(sentAt) {
    const run = this.#run;
    this.#timer = setTimeout(() => this.#retry(TOO_LATE), CONNECT_MS_MAX - CONNECTED_MS_MAX);
    const { body } = this.#polls.possible ? await this.#server.get("/v1/time") : { body: null };
    if (run !== this.#run || this.#state === "open" || !Number.isFinite(body?.now)) return;
    this.#polls.begin(body.now - (Date.now() - sentAt));
    this.#connect();
  }

  async #poll() {
    const run = this.#run, topics = this.#polls.asks = this.#polls.topics(this.#topics.names, this.#good), sentAt = Date.now();
    const query = this.#query(topics);
    this.#heardAt = sentAt;
    this.#heartbeatMs = POLL_MS_MAX / HEARTBEATS_MISSED_MAX;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#polls.works(false);
      this.#opened(topics);
      if (run === this.#run) this.#repoll();
    }, POLL_WAITS_MS);
    this.#try(topics);
    const answer = await this.#polls.ask(this.#server, query, this.#abort.signal);
    if (run !== this.#run) return;
    const { status, body } = answer;
    if (status !== undefined && status !== 200 && status !== 404) this.#refused(/** @type {Answer} */ (answer), topics);
    else if (!Array.isArray(body?.events)) this.#retry({ status, detail: status && "What answered is no poll." });
    else await this.#answered(body, topics, sentAt);
  }

  /** @param {any} body @param {string[]} topics @param {number} sentAt */
  async #answered({ events, last_event_id: place, retry_ms: retryMs = 0 }, topics, sentAt) {
    let ends = false, run = this.#run;
    this.#pauseMs = Math.min(RETRY_MS_MAX, retryMs);
    this.#polls.works(true);
    this.#opened(topics);
    if (place) this.#position = place;
    // Also where a handler has changed the topics meanwhile, since the place is behind all of them.
    for (const event of events) {
      if (this.#state === "closed") return;
      const { type, ...detail } = event;
      // Only what belongs to a topic has one.
      if (event.id !== undefined) this.#receive(event);
      else if (type === "gap") this.#lacks(detail);
      else if (type === "token") {
        this.#handlers.emit("token", detail);
        ends ||= this.#polls.ends(detail.expires_at);
      }
    }
    if (ends && this.#server.renews) await this.#server.fresh().catch(() => undefined);
    const pause = this.#polls.pause(events, sentAt, retryMs);
    if (pause > 0) await sleep(pause);
    if (run === this.#run) this.#connect();
  }

  /** Asks anew if a poll that waits is not for what is wanted. */
  #repoll() { if (this.#polls.stale(this.#topics.names, this.#good)) this.#connect(); }

  /** Now and then, whether a stream comes through again. It takes the place of the polls then. @param {string[]} topics */
  async #try(topics) {
    const stream = await this.#polls.stream(this.#server, this.#query(topics));
    if (!stream || this.#state === "closed") return;
    this.#polls.end();
    this.#stop();
    this.#abort = stream.abort;
    const run = this.#run;
    this.#heardAt = Date.now();
    try {
      this.#take(stream.first, run, topics);
      await this.#read(stream.pieces, run, topics);
    } catch { /* It broke, or was given up. */ }
    if (run === this.#run) this.#retry();
  }

  // ---- events

  /** @param {Event} event @param {boolean} [placed] whether it had an `id:` line; of a poll's nobody knows */
  #receive(event, placed) {
    if (!this.#topics.isNew(event, placed)) return;
    this.#latency.measure(event.at);
    this.#topics.take(event);
    this.#handlers.emit("event", event);
  }

  /** @param {Gap} gap */
  #lacks(gap) {
    this.#topics.lacks(gap);
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
