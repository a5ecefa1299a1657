/**
 * Fanfare's client for browsers: follows topics over Server-Sent Events, and does what a plain `EventSource` cannot:
 * change the topics of an open stream, drop repeats, renew its token, say why it was refused.
 *
 *     import { connect } from "/fanfare.js";
 *     const stream = connect({ topics: ["live:42"] });
 *     stream.on("comment", ({ data }) => show(data.text));
 *
 * @typedef {{id: string, topic: string, type: string, key?: string, at: number, count?: number,
 *   counts?: Record<string, number>, members?: string[], skipped?: number, shown?: false, data: any}} Event `skipped`: so
 *   many of its topic and type were left out before it; `shown` false: it comes only since all of its type was asked for
 * @typedef {"connecting" | "open" | "reconnecting" | "refused" | "closed"} State
 * @typedef {object} Controls What `on` hands over beside events.
 * @property {{connection: string, node: string, heartbeat_ms: number, pending: string[]}} connected the stream is open
 * @property {{topic: string, after: string | null}} gap events of class `every` may be missing
 * @property {{expires_at: number}} token the token ends soon; it is renewed if there is a function to ask
 * @property {{reason: "drain" | "backlog" | "token" | "busy", retry_ms: number}} bye the stream ends and comes back
 * @property {{topic: string, status: number, detail: string}} refused this topic was added and may not be
 * @property {{state: State, status?: number, detail?: string, retryMs?: number}} state `retryMs`: when the next try is
 *
 * @typedef {object} Options
 * @property {string} [url] where Fanfare is; default this page's origin
 * @property {Iterable<string>} [topics] up to 100; default none, to be added later
 * @property {Iterable<string>} [all] types with a pace of which every event is wanted, for who may moderate the topics
 * @property {string} [member] who watches, where the server has `--auth none`
 * @property {string | (() => string | Promise<string>)} [token] a function is asked again when it ends
 * @property {boolean} [withCredentials] send cookies to another origin too; default false
 * @property {(event: Event) => void} [onevent] the same as `on("*", …)`
 * @property {number} [sample] the share of events, 0 to 1, whose time of receipt is reported; default 0.01
 *
 * @typedef {{status: number, detail: string, retryMs: number}} Answer `status` 0: there was none
 */

const BACKOFF_MS = 2_000;
const BACKOFF_MS_MAX = 30_000;
const RETRY_MS_MAX = 300_000;
// `connected` comes a second after the request at the latest; the rest is for slow networks.
const CONNECT_MS_MAX = 20_000;
const REQUEST_MS_MAX = 15_000;
// A stream that lived shorter than this does not count as a success, or a server that falls over at once is hammered.
const STABLE_MS = 10_000;
// A resume repeats what came in the ten seconds before it, of another data center in the minute before it.
const SEEN_MIN = 1_000;
const SEEN_MS = 70_000;
const SEEN_MAX = 20_000;
const SAMPLES_MAX = 100;
const SAMPLES_EVERY_MS = 10_000;
const PROBES = 4;
const PROBE_SPREAD_MS = 10_000;
const CLOCK_MS_MAX = 600_000;
const CLOCK_RETRY_MS = 60_000;
const TAPS_MS = 250;
const TAPS_MAX = 100;

/** Full jitter: a crowd that was cut together comes back spread over the whole time. @param {number} attempt */
const backoff = (attempt) => Math.random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** attempt);

/** Whether the same request may succeed later. @param {number} status */
const passing = (status) => status === 0 || status === 408 || status === 425 || status === 429 || status >= 500;

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** As the server writes a topic: two spellings are one (RFC 3986, 6.2.2). @param {string} topic */
const normal = (topic) => topic.replace(/%[0-9a-f]{2}/gi, (escape) => {
  const character = String.fromCharCode(parseInt(escape.slice(1), 16));
  return /[\w.~-]/.test(character) ? character : escape.toUpperCase();
});

/** @param {string} text @returns {any} an object, or null */
function parse(text) {
  let value;
  try { value = JSON.parse(text); } catch { /* not ours */ }
  return typeof value === "object" ? value : null;
}

/** @param {Response} response @returns {Promise<Answer>} */
async function answerOf(response) {
  const problem = parse(await response.text().catch(() => "")) ?? {};
  // Seconds or a date (RFC 9110, 10.2.3). Another origin's is hidden from scripts unless the server exposes it.
  const after = response.headers.get("Retry-After") ?? "0";
  const retryMs = /^\d+$/.test(after) ? Number(after) * 1_000 : Date.parse(after) - Date.now();
  const detail = problem.detail ?? problem.title ?? `The server answered ${response.status}.`;
  return { status: response.status, detail, retryMs: retryMs > 0 ? retryMs : 0 };
}

/** A stream of events that comes back by itself until it is closed or refused. */
class Stream {
  /** @type {Options} */ #options;
  /** @type {string} */ #base;
  /** What is wanted. @type {Set<string>} */ #topics;
  /** What the open stream has. @type {Set<string>} */ #served = new Set();
  /** @type {Map<string, Set<(detail: any) => void>>} */ #handlers = new Map();
  /** @type {State} */ #state = "connecting";
  /** @type {EventSource | undefined} */ #source;
  // Counts attempts to have a stream. Whoever waited, and finds that it has changed, speaks of a stream long gone.
  #run = 0;
  /** The run whose topics are being changed. */ #syncing = 0;
  #attempts = 0;
  #openedAt = 0;
  #notBefore = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #connection = "";
  #heartbeatMs = Infinity;
  #heardAt = 0;
  /** The last `id:` line, from where to resume. */ #position = "";
  /** Names of what came of each topic, with the server's time. @type {Map<string, Map<string, number>>} */ #seen = new Map();
  /** Types of which every event is wanted. @type {Set<string>} */ #all;
  /** Types whose events have positions. @type {Set<string>} */ #placed = new Set();
  /** @type {string | undefined} */ #token;
  /** @type {Promise<string> | undefined} */ #asking;
  #asked = false;
  /** Server time less ours, in ms. @type {number | undefined} */ #offset;
  #probeAt = 0;
  #liveFrom = 0;
  /** @type {number | null} */ #latency = null;
  /** @type {{at: number, received: number}[]} */ #samples = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #flushTimer;
  /** By video and reaction. @type {Map<string, number>} */ #taps = new Map();
  #closed = new AbortController();

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#base = (options.url ?? location.origin).replace(/\/+$/, "");
    this.#topics = new Set([...options.topics ?? []].map(normal));
    this.#all = new Set(options.all);
    if (typeof options.token === "string") this.#token = options.token;
    if (options.onevent) this.on("*", options.onevent);
    const listen = (/** @type {string} */ name, /** @type {(event: any) => void} */ act) =>
      globalThis.addEventListener?.(name, act, { signal: this.#closed.signal });
    // A socket that outlived a time offline, or in the back-forward cache, can be dead without an error.
    listen("online", () => this.#soon());
    listen("pageshow", (event) => { if (event.persisted) this.#soon(); });
    listen("pagehide", () => this.#flush());
    // EventSource hides heartbeats, which are comments: silence does not tell a quiet topic from a dead socket. Errors
    // do (browsers use TCP keep-alive), but late after a sleep; so a page that is looked at again after a long silence
    // asks for a change of nothing: 412 says that the server has given the connection up.
    listen("visibilitychange", () => {
      const silent = Date.now() - this.#heardAt > 3 * this.#heartbeatMs;
      if (this.#state === "open" && silent && document.visibilityState === "visible") this.#sync(true);
    });
    this.#connect();
  }

  get state() { return this.#state; }

  /** The topics that are wanted, also those that the server does not know of yet. */
  get topics() { return [...this.#topics]; }

  /** From publishing to receipt of the newest event, in ms by the server's clock; null before that is known. */
  get latency() { return this.#latency; }

  /**
   * Calls `handler` with each event of a type, with every event (`"*"`), or with what {@link Controls} lists.
   * Events whose type has the name of a control are handed to `"*"` only.
   * @template {string} T
   * @param {T} type
   * @param {(detail: T extends keyof Controls ? Controls[T] : Event) => void} handler
   * @returns {() => void} ends it
   */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    return () => { handlers.delete(handler); };
  }

  /** @param {...string} topics */
  add(...topics) {
    for (const topic of topics) this.#topics.add(normal(topic));
    this.#changed();
  }

  /** No event of these reaches a handler from now on. @param {...string} topics */
  remove(...topics) {
    for (const topic of topics.map(normal)) {
      this.#topics.delete(topic);
      this.#seen.delete(topic);
    }
    this.#changed();
  }

  /** Every event of these types is wanted from now on, also what their pace leaves out; none is what all are shown. @param {...string} types */
  all(...types) {
    this.#all = new Set(types);
    this.reconnect();
  }

  /** Connects anew at once: after a sign-in, or to try again what was refused. Does nothing once closed. */
  reconnect() {
    if (this.#state === "closed") return;
    this.#attempts = 0;
    this.#asked = false;
    this.#connect();
  }

  close() {
    if (this.#state === "closed") return;
    this.#flush();
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
    let token;
    try {
      token = this.#token ?? (typeof this.#options.token === "function" ? await this.#freshToken() : undefined);
    } catch (error) {
      if (run === this.#run) this.#retry({ detail: `No token could be had: ${error}` });
      return;
    }
    // Topics that are added in the same turn go with the request.
    await null;
    if (run !== this.#run) return;
    const topics = [...this.#topics], query = new URLSearchParams(topics.map((topic) => ["topic", topic]));
    for (const type of this.#all) query.append("all", type);
    if (this.#options.member) query.set("member", this.#options.member);
    // EventSource cannot set headers.
    if (token) query.set("access_token", token);
    if (this.#position) query.set("last_event_id", this.#position);
    const url = `${this.#base}/v1/events?${query}`;
    const source = this.#source = new EventSource(url, { withCredentials: this.#options.withCredentials ?? false });
    let position = "";

    const hear = (/** @type {string} */ name, /** @type {(data: any, message: MessageEvent) => void} */ act) =>
      source.addEventListener(name, (message) => {
        const data = run === this.#run ? parse(message.data) : null;
        if (data === null) return;
        this.#heardAt = Date.now();
        act(data, message);
      });
    hear("connected", (data, message) => {
      clearTimeout(this.#timer);
      // Where the stream begins, or what it was asked to go on from: something to resume by before the first event that has an id.
      if (message.lastEventId !== "") this.#position = position = message.lastEventId;
      this.#connection = data.connection;
      this.#heartbeatMs = data.heartbeat_ms ?? Infinity;
      this.#openedAt = this.#liveFrom = Date.now();
      this.#served = new Set(topics);
      this.#asked = false;
      this.#set("open");
      this.#emit("connected", data);
      if (run === this.#run) this.#sync();
    });
    hear("message", (event, message) => {
      // Without an `id:` line a message repeats the last one's id, and two topics may have the same: a change says that a type has ids.
      const changed = message.lastEventId !== "" && message.lastEventId !== position;
      if (changed) this.#placed.add(event.type), this.#position = position = message.lastEventId;
      this.#receive(event, this.#placed.has(event.type));
    });
    hear("gap", (data) => this.#emit("gap", data));
    hear("token", (data) => {
      this.#emit("token", data);
      this.#renew(run);
    });
    hear("bye", (data) => {
      if (data.reason === "token" && typeof this.#options.token === "function") this.#token = undefined;
      // The server's `retry:` line, which only browsers can read, says the same as `retry_ms`.
      this.#retry({ retryMs: data.retry_ms });
      this.#emit("bye", data);
    });
    // The browser's own reconnecting is not used: its URL has the old topics and the old token.
    source.addEventListener("error", () => {
      if (run !== this.#run) return;
      if (source.readyState === EventSource.CLOSED) this.#askWhy(url);
      else this.#retry();
    });
  }

  /** Lets go of the stream, and of everybody who waits on its behalf. */
  #stop() {
    this.#run++;
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = undefined;
  }

  /** Connects after a while: the backoff, and not before what the server asked for. @param {Partial<Answer>} answer */
  #retry({ retryMs, status, detail } = {}) {
    this.#stop();
    if (this.#openedAt > 0 && Date.now() - this.#openedAt >= STABLE_MS) this.#attempts = 0;
    this.#openedAt = 0;
    const asked = Math.min(RETRY_MS_MAX, Number(retryMs) || 0), wait = Math.max(asked, backoff(this.#attempts++));
    this.#notBefore = Date.now() + asked;
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#set("reconnecting", { retryMs: wait, status, detail });
  }

  /** What held the stream back may be over. */
  #soon() {
    if (this.#state === "closed" || this.#state === "refused") return;
    this.#attempts = 0;
    this.#retry({ retryMs: this.#notBefore - Date.now() });
  }

  /**
   * EventSource gave up, and hides the status. The same request by `fetch` shows it: one more request for each one that
   * failed, and none once the stream is refused. It does not accept `text/event-stream`, so that 429 and 503 stay what
   * they are, with `Retry-After`. If it succeeds it is dropped at once, since the failure has passed.
   * @param {string} url
   */
  async #askWhy(url) {
    this.#stop();
    const run = this.#run, abort = new AbortController();
    this.#timer = setTimeout(() => abort.abort(), REQUEST_MS_MAX);
    this.#set("reconnecting");
    const headers = { Accept: "application/problem+json" };
    /** @type {Answer | undefined} */
    let answer;
    try {
      const response = await fetch(url, { ...this.#fetching(), headers, signal: abort.signal });
      if (response.ok) abort.abort();
      else answer = await answerOf(response);
    } catch { /* no answer at all: that may pass */ }
    if (run !== this.#run) return;
    if (answer?.status === 401 && typeof this.#options.token === "function" && !this.#asked) {
      // The token may have ended while this device slept. Once is enough: a fresh one that is refused stays refused.
      this.#asked = true;
      this.#token = undefined;
      this.#retry(answer);
    } else if (!answer || passing(answer.status)) {
      this.#retry(answer);
    } else {
      this.#stop();
      this.#set("refused", { status: answer.status, detail: answer.detail });
    }
  }

  /** @param {State} state @param {Partial<Controls["state"]>} more */
  #set(state, more = {}) {
    if (state === this.#state && more.retryMs === undefined) return;
    this.#state = state;
    this.#emit("state", { state, ...more });
  }

  /** @param {string} name @param {any} detail */
  #emit(name, detail) {
    for (const handler of [...this.#handlers.get(name) ?? []]) {
      try {
        handler(detail);
      } catch (error) {
        // A handler's mistake is reported as any other, and stops neither the stream nor another handler.
        queueMicrotask(() => { throw error; });
      }
    }
  }

  // ---- topics

  #changed() {
    if (this.#state === "open") this.#sync();
    // What was refused was another set of topics.
    else if (this.#state === "refused") this.reconnect();
  }

  /** Changes the open stream's topics until they are what is wanted, one request at a time. */
  async #sync(check = false) {
    const run = this.#run;
    if (this.#syncing === run) return;
    this.#syncing = run;
    await null;
    for (let tries = 0, most = Infinity; run === this.#run;) {
      const add = [...this.#topics].filter((topic) => !this.#served.has(topic)).slice(0, most);
      const remove = [...this.#served].filter((topic) => !this.#topics.has(topic));
      if (add.length + remove.length === 0 && !check) {
        this.#syncing = 0;
        return;
      }
      // The newest values of a new topic come at once and were published long ago: no latency to measure.
      if (add.length > 0) this.#liveFrom = Date.now();
      const answer = await this.#post(this.#path("topics"), { add, remove });
      if (run !== this.#run) return;
      if (answer.status === 200) {
        for (const topic of add) this.#served.add(topic);
        for (const topic of remove) this.#served.delete(topic);
        tries = 0;
        check = false;
      } else if (passing(answer.status)) {
        await sleep(Math.max(answer.retryMs, backoff(tries++)));
      } else if (answer.status === 412 || answer.status === 401 || add.length === 0) {
        // The connection is gone, or its token: a new stream has the full set.
        this.#retry(answer);
      } else if (add.length > 1) {
        // One forbidden topic refuses the whole request; alone, the others are taken.
        most = 1;
      } else {
        this.#topics.delete(add[0]);
        this.#emit("refused", { topic: add[0], status: answer.status, detail: answer.detail });
      }
    }
  }

  // ---- events

  /** @param {Event} event @param {boolean} placed whether its type has positions, so is of class `every` */
  #receive(event, placed) {
    // Events of a removed topic can be on their way still.
    if (!this.#topics.has(event.topic)) return;
    // A type has one class, so with the type in its name only an event of class `every` is ever taken for a repeat.
    const name = `${event.type} ${event.id}`, seen = this.#seen.get(event.topic) ?? new Map();
    if (seen.has(name)) return;
    if (placed && event.count === undefined) {
      this.#seen.set(event.topic, seen.set(name, event.at));
      for (const [oldest, at] of seen) {
        if (seen.size <= SEEN_MIN || (seen.size <= SEEN_MAX && at > event.at - SEEN_MS)) break;
        seen.delete(oldest);
      }
    }
    this.#measure(event.at);
    if (!CONTROLS.has(event.type)) this.#emit(event.type, event);
    this.#emit("*", event);
  }

  // ---- the token

  /** Asks the token function, once for all who need one now. @returns {Promise<string>} */
  #freshToken() {
    const ask = /** @type {() => string | Promise<string>} */ (this.#options.token);
    return this.#asking ??= (async () => this.#token = await ask())().finally(() => { this.#asking = undefined; });
  }

  /** Renews an open stream's rights. @param {number} run */
  async #renew(run) {
    if (typeof this.#options.token !== "function") return;
    for (let tries = 0; run === this.#run; tries++) {
      const token = await this.#freshToken().catch(() => undefined);
      if (run !== this.#run) return;
      const answer = token === undefined ? { status: 0, retryMs: 0 } : await this.#post(this.#path("token"), { token });
      if (run !== this.#run || answer.status === 204) return;
      // Gone, or the token of another member: only a new stream can have it.
      if (!passing(answer.status)) this.#retry(answer);
      // If it stays away until the token ends, `bye` says so.
      else await sleep(Math.max(answer.retryMs, backoff(tries)));
    }
  }

  // ---- latency

  /** @param {number} at */
  #measure(at) {
    const now = Date.now();
    if (now >= this.#probeAt) {
      // Not at once: a broadcast reaches everyone together, and they would all ask for the time together.
      this.#probeAt = Infinity;
      setTimeout(() => this.#probe(), Math.random() * PROBE_SPREAD_MS);
    }
    // Replayed events are late for another reason; in a hidden page it is the browser that is late.
    if (this.#offset === undefined || !(at - this.#offset >= this.#liveFrom) || globalThis.document?.hidden) return;
    // Below the clocks' own error a latency can come out negative.
    const received = Math.max(at, Math.round(now + this.#offset));
    this.#latency = received - at;
    if (Math.random() >= (this.#options.sample ?? 0.01) || this.#samples.length >= SAMPLES_MAX) return;
    this.#samples.push({ at, received });
    this.#flushTimer ??= setTimeout(() => this.#flush(), SAMPLES_EVERY_MS);
  }

  /** Asks for the server's time. It was read about half way; the shortest way leaves the least room for error. */
  async #probe() {
    let best = Infinity, offset = this.#offset;
    const url = `${this.#base}/v1/time`;
    for (let probe = 0; probe < PROBES && this.#state !== "closed"; probe++) {
      try {
        const sent = performance.now();
        const response = await fetch(url, { ...this.#fetching(), signal: AbortSignal.timeout(REQUEST_MS_MAX) });
        const { now } = await response.json(), round = performance.now() - sent;
        if (!Number.isFinite(now) || round >= best) continue;
        best = round;
        offset = now + round / 2 - Date.now();
      } catch {
        break;
      }
    }
    this.#offset = offset;
    this.#probeAt = Date.now() + (best < Infinity ? CLOCK_MS_MAX : CLOCK_RETRY_MS);
  }

  #flush() {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    // Lost samples are not sent again: they are a sample.
    if (this.#samples.length > 0) this.#post("/v1/received", { samples: this.#samples.splice(0) }, true);
  }

  // ---- requests

  /**
   * Gives a heart, as often as one likes: those of a quarter of a second are one request. What a server refuses is lost.
   * @param {string} video @param {string} [reaction]
   */
  tap(video, reaction = "like") {
    const key = JSON.stringify([video, reaction]), taps = this.#taps.get(key) ?? 0;
    this.#taps.set(key, Math.min(taps + 1, TAPS_MAX));
    if (taps === 0) setTimeout(() => {
      const count = this.#taps.get(key);
      this.#taps.delete(key);
      this.#post(`/v1/videos/${encodeURIComponent(video)}/taps`, { member: this.#options.member, reaction, count }, true);
    }, TAPS_MS);
  }

  /** @param {string} what */
  #path(what) { return `/v1/connections/${encodeURIComponent(this.#connection)}/${what}`; }

  /** @returns {RequestInit} */
  #fetching() {
    return { cache: "no-store", credentials: this.#options.withCredentials ? "include" : "same-origin" };
  }

  /**
   * Never rejects. Up to `fetch` nothing is waited for: with `keepalive` the request leaves even while the page goes
   * (as one of `sendBeacon` does, which cannot carry a token).
   * @param {string} path @param {object} body @returns {Promise<Answer>}
   */
  async #post(path, body, keepalive = false) {
    /** @type {Record<string, string>} */
    const headers = { "Content-Type": "application/json" };
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    const signal = AbortSignal.timeout(REQUEST_MS_MAX);
    try {
      const request = { ...this.#fetching(), method: "POST", headers, body: JSON.stringify(body), keepalive, signal };
      return await answerOf(await fetch(this.#base + path, request));
    } catch {
      return { status: 0, detail: "The server cannot be reached.", retryMs: 0 };
    }
  }
}

const CONTROLS = new Set(["connected", "gap", "token", "bye", "refused", "state", "*"]);

/**
 * Opens a stream. It reconnects by itself, with jitter, and resumes after the last event of class `every` that it saw.
 * @param {Options} [options]
 */
export function connect(options = {}) {
  return new Stream(options);
}
