// One stream of a server, or polls in its place: asked for, resumed, renewed, given up when it is silent, and its topics changed.
import { blocksOf } from "./blocks.js";
import { CONNECTED_MS_MAX, POLL_MS_MAX, POLL_WAITS_MS, Polls } from "./poll.js";
import { answerOf, backoff, parse, passing, sleep } from "./server.js";

/**
 * @typedef {import("../types.d.ts").Event} Event
 * @typedef {import("../types.d.ts").Gap} Gap
 * @typedef {import("../types.d.ts").State} State
 * @typedef {import("../types.d.ts").StateChange} StateChange
 * @typedef {import("./server.js").Answer} Answer
 * @typedef {import("./server.js").Server} Server
 * @typedef {import("./blocks.js").Block} Block
 * @typedef {{readonly names: string[], has(name: string): boolean, readonly more: string[][], readonly all: boolean}} Wanted
 *   topics, what else the query says, and whether a type is asked for of which every event is wanted
 * @typedef {{state: State, place: string, good: Set<string>}} Before what was before it: the state, from where to resume, and what
 *   another stream had
 */

/**
 * What a stream tells, in this order. `open`: it has these topics, and is new, or a poll that follows another one is not.
 * `added` has the newest values where they do not come by themselves. An event has `placed`: whether it had an `id:` line; of
 * a poll's nobody knows.
 * @typedef {{kind: "state", change: StateChange} | {kind: "open", topics: string[], fresh: boolean}
 *   | {kind: "added", topics: string[], newest: Event[]} | {kind: "removed", topics: string[]}
 *   | {kind: "refused", topic: string, answer: Answer} | {kind: "place", place: string} | {kind: "gap", gap: Gap}
 *   | {kind: "event", event: Event, placed?: boolean} | {kind: "told", name: "connected" | "token" | "bye", data: any}
 *   | {kind: "alive"}} Message
 */

const RETRY_MS_MAX = 300_000;
const CONNECT_MS_MAX = 20_000;
const TOO_LATE = { detail: "The server did not answer in time." };
// A stream that lived shorter than this does not count as a success, or a server that falls over at once is hammered.
const STABLE_MS = 10_000;
// Heartbeats may come a quarter late; after two of them are missed the connection is dead.
const HEARTBEATS_MISSED_MAX = 2;

export class Stream {
  /** @type {Server} */ #server;
  /** @type {Wanted} */ #wanted;
  /** @type {(message: Message) => void} */ #tell;
  /** What the open stream has. @type {Set<string>} */ #served = new Set();
  /** What a stream had before, so is not what the server refuses. @type {Set<string>} */ #good;
  /** What a stream is asked for where not everything can be had. @type {Set<string> | undefined} */ #only;
  /** @type {State} */ #state;
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
  /** What the timer does, and when it is due. */ #due = { at: Infinity, act: () => {} };
  #connection = "";
  #heartbeatMs = Infinity;
  #heardAt = 0;
  /** The last `id:` line, from where to resume. @type {string} */ #position;
  /** Whether a fresh token was refused. */ #asked = false;

  /** @param {Server} server @param {Wanted} wanted @param {Before} before @param {(message: Message) => void} tell */
  constructor(server, wanted, { state, place, good }, tell) {
    this.#server = server;
    this.#wanted = wanted;
    this.#tell = tell;
    this.#state = state;
    this.#position = place;
    this.#good = good;
  }

  start() { this.#connect(); }

  /** Gives true: there is nobody else who could. */
  reconnect() {
    this.#attempts = 0;
    this.#asked = false;
    this.#connect();
    return true;
  }

  /** For good, without a word. */
  close() {
    this.#state = "closed";
    this.#polls.end();
    this.#stop();
  }

  /** Other topics are wanted. */
  changed() { if (this.#state === "open") this.#polls.on ? this.#repoll() : this.#sync(); }

  /** What held the stream back may be over. */
  soon() {
    if (this.#state === "closed") return;
    this.#attempts = 0;
    this.#polls.end();
    this.#retry({ retryMs: this.#notBefore - Date.now() });
  }

  /** Timers of a hidden page are late, and those of a device that slept. */
  late() { if (Date.now() >= this.#due.at) this.#due.act(); }

  /** @param {number} ms @param {() => void} act */
  #after(ms, act) {
    clearTimeout(this.#timer);
    const due = () => {
      this.#due.at = Infinity;
      act();
    };
    this.#due = { at: Date.now() + ms, act: due };
    this.#timer = setTimeout(due, ms);
  }

  // ---- the life of a stream

  async #connect() {
    this.#stop();
    const run = this.#run;
    this.#after(CONNECT_MS_MAX, () => this.#retry(TOO_LATE));
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
    const topics = this.#wanted.names.filter((topic) => this.#only?.has(topic) ?? true), sentAt = Date.now();
    this.#after(CONNECTED_MS_MAX, () => this.#doubt(sentAt));
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
    for (const [name, value] of this.#wanted.more) query.append(name, value);
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
      if (blocks.length === 0) this.#tell({ kind: "alive" });
      this.#take(blocks, run, topics);
    }
  }

  /** @param {Block[]} blocks @param {number} run @param {string[]} topics */
  #take(blocks, run, topics) {
    for (const { name, data, id, retry } of blocks) {
      if (run !== this.#run) return;
      if (retry !== undefined) this.#pauseMs = Math.min(RETRY_MS_MAX, retry);
      if (id !== undefined) this.#move(id);
      const parsed = parse(data);
      if (parsed !== null) this.#hear(name, parsed, id !== undefined, topics);
    }
  }

  /** @param {string} name @param {any} data @param {boolean} placed @param {string[]} topics */
  #hear(name, data, placed, topics) {
    if (name === "message") this.#tell({ kind: "event", event: data, placed });
    else if (name === "connected") this.#connected(data, topics);
    else if (name === "gap") this.#tell({ kind: "gap", gap: data });
    else if (name === "token") {
      this.#tell({ kind: "told", name, data });
      this.#renew();
    } else if (name === "bye") {
      if (data.reason === "token") this.#server.forget();
      this.#retry({ retryMs: data.retry_ms });
      this.#tell({ kind: "told", name, data });
    }
  }

  /** @param {any} data @param {string[]} topics */
  #connected(data, topics) {
    const run = this.#run;
    this.#connection = data.connection;
    this.#heartbeatMs = data.heartbeat_ms ?? Infinity;
    this.#openedAt = 0;
    this.#opened(topics);
    if (run === this.#run) this.#tell({ kind: "told", name: "connected", data });
    if (run === this.#run) this.#sync();
  }

  /** A stream has these topics, or a poll. @param {string[]} topics */
  #opened(topics) {
    const fresh = this.#openedAt === 0;
    this.#openedAt ||= Date.now();
    this.#served = new Set(topics);
    this.#good = new Set(topics);
    this.#asked = false;
    this.#watch();
    this.#state = "open";
    this.#tell({ kind: "open", topics, fresh });
  }

  /** @param {string} place */
  #move(place) {
    this.#position = place;
    this.#tell({ kind: "place", place });
  }

  /** Gives a stream up that has been silent for too long, and looks again when that could be. */
  #watch() {
    clearTimeout(this.#timer);
    this.#due.at = Infinity;
    if (!Number.isFinite(this.#heartbeatMs)) return;
    const left = this.#heardAt + HEARTBEATS_MISSED_MAX * this.#heartbeatMs - Date.now();
    if (left > 0) return this.#after(left, () => this.#watch());
    const polled = this.#polls.on;
    this.#retry({ detail: "The server fell silent." });
    if (!polled) this.#polls.silent();
  }

  /** Lets go of the stream, and of everybody who waits on its behalf. */
  #stop() {
    this.#run++;
    clearTimeout(this.#timer);
    this.#due.at = Infinity;
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
    this.#after(wait, () => this.#connect());
    this.#set("reconnecting", { retryMs: wait, status, detail });
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
    } else if ((status === 400 || status === 403) && topics.length > 0 && !this.#wanted.all) {
      // One topic refuses the whole request: what was good before goes on, and the others are added one by one.
      if (this.#polls.on) {
        const culprit = this.#polls.culprit(topics, this.#good);
        if (culprit !== undefined) this.#tell({ kind: "refused", topic: culprit, answer });
        if (this.#state !== "closed") this.#connect();
        return;
      }
      const good = topics.filter((topic) => this.#good.has(topic));
      this.#only = new Set(good.length === topics.length ? [] : good);
      this.#connect();
    } else {
      if (status === 401) this.#server.refuse();
      this.#stop();
      this.#set("closed", { status, detail });
    }
  }

  /** @param {State} state @param {Partial<StateChange>} more */
  #set(state, more = {}) {
    if (state === this.#state && more.retryMs === undefined) return;
    this.#state = state;
    this.#tell({ kind: "state", change: { state, ...more } });
  }

  // ---- topics

  /** Changes the open stream's topics until they are what is wanted, one request at a time. */
  async #sync() {
    const run = this.#run;
    if (this.#syncing === run) return;
    this.#syncing = run;
    await null;
    for (let tries = 0, most = Infinity; run === this.#run;) {
      const add = this.#wanted.names.filter((topic) => !this.#served.has(topic)).slice(0, most);
      const remove = [...this.#served].filter((topic) => !this.#wanted.has(topic));
      if (add.length + remove.length === 0) {
        this.#syncing = 0;
        this.#only = undefined;
        return;
      }
      const answer = await this.#server.post(this.#path("topics"), { add, remove });
      if (run !== this.#run) return;
      if (answer.status === 200) {
        for (const topic of add) this.#served.add(topic), this.#good.add(topic), this.#only?.add(topic);
        for (const topic of remove) this.#served.delete(topic), this.#good.delete(topic);
        if (remove.length > 0) this.#tell({ kind: "removed", topics: remove });
        if (add.length > 0) this.#tell({ kind: "added", topics: add, newest: [] });
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
        this.#tell({ kind: "refused", topic: add[0], answer });
      }
    }
  }

  // ---- polls

  /** Nothing has come of a stream: if the server answers something else, it is held back on its way. @param {number} sentAt */
  async #doubt(sentAt) {
    const run = this.#run;
    this.#after(CONNECT_MS_MAX - CONNECTED_MS_MAX, () => this.#retry(TOO_LATE));
    const { body } = this.#polls.possible ? await this.#server.get("/v1/time") : { body: null };
    if (run !== this.#run || this.#state === "open" || !Number.isFinite(body?.now)) return;
    this.#polls.begin(body.now - (Date.now() - sentAt));
    this.#connect();
  }

  async #poll() {
    const run = this.#run, topics = this.#polls.asks = this.#polls.topics(this.#wanted.names, this.#good), sentAt = Date.now();
    const query = this.#query(topics);
    this.#heardAt = sentAt;
    this.#heartbeatMs = POLL_MS_MAX / HEARTBEATS_MISSED_MAX;
    this.#after(POLL_WAITS_MS, () => {
      this.#polls.works(false);
      this.#opened(topics);
      if (run === this.#run) this.#repoll();
    });
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
    if (place) this.#move(place);
    // Also where a handler has changed the topics meanwhile, since the place is behind all of them.
    for (const event of events) {
      if (this.#state === "closed") return;
      const { type, ...detail } = event;
      // Only what belongs to a topic has one.
      if (event.id !== undefined) this.#tell({ kind: "event", event });
      else if (type === "gap") this.#tell({ kind: "gap", gap: detail });
      else if (type === "token") {
        this.#tell({ kind: "told", name: type, data: detail });
        ends ||= this.#polls.ends(detail.expires_at);
      }
    }
    if (ends && this.#server.renews) await this.#server.fresh().catch(() => undefined);
    const pause = this.#polls.pause(events, sentAt, retryMs);
    if (pause > 0) await sleep(pause);
    if (run === this.#run) this.#connect();
  }

  /** Asks anew if a poll that waits is not for what is wanted. */
  #repoll() { if (this.#polls.stale(this.#wanted.names, this.#good)) this.#connect(); }

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

  /** @param {string} what */
  #path(what) { return `/v1/connections/${encodeURIComponent(this.#connection)}/${what}`; }
}
