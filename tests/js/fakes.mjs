// A browser and a server that obey the test: fetch and its streams, the clock, chance, and the page's events.
import { connect } from "../../packages/js/fanfare.js";

/** The browser's time when a test starts, Unix ms. */
export const T = 1_732_313_131_000;
export const BASE = "http://fanfare.test";

/** Where a test is not about silence, none is too long. */
const QUIET_MS = 1e8;

/** Lets everything happen that waits for no clock. */
export async function settle() {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** One poll, which waits for the test. */
class Poll {
  #answer;
  #break;
  response = new Promise((resolve, reject) => { [this.#answer, this.#break] = [resolve, reject]; });

  constructor(url, init) {
    this.query = new URL(url).searchParams;
    this.init = init;
    init.signal.addEventListener("abort", () => this.#break(init.signal.reason));
  }

  get token() { return new Headers(this.init.headers).get("Authorization")?.replace("Bearer ", "") ?? null; }

  get closed() { return this.init.signal.aborted; }

  /** 200 with these events. */
  answer(events, last_event_id, retry_ms = 1_500) { return this.fail(json({ events, last_event_id, retry_ms })); }

  /** Any other answer; none, and the connection breaks. */
  async fail(response) {
    if (response) this.#answer(response);
    else this.#break(new TypeError("network"));
    await settle();
  }
}

/** One request for a stream, with the server's side in the test's hands. Each step ends when the client has done its part. */
class Source {
  #answer;
  #break;
  /** @type {ReadableStreamDefaultController | undefined} */ #controller;
  response = new Promise((resolve, reject) => { [this.#answer, this.#break] = [resolve, reject]; });

  constructor(url, init) {
    this.url = new URL(url);
    this.init = init;
    init.signal.addEventListener("abort", () => {
      this.#break(init.signal.reason);
      this.#end((controller) => controller.error(init.signal.reason));
    });
  }

  get query() { return this.url.searchParams; }

  get token() { return new Headers(this.init.headers).get("Authorization")?.replace("Bearer ", "") ?? null; }

  /** Whether the client gave it up. */
  get closed() { return this.init.signal.aborted; }

  #end(act) {
    const controller = this.#controller;
    this.#controller = undefined;
    if (controller) act(controller);
  }

  /** Some bytes of the stream, whose head comes with the first. */
  async bytes(text) {
    if (this.closed) return;
    if (!this.#controller) {
      const body = new ReadableStream({ start: (controller) => { this.#controller = controller; } });
      this.#answer(new Response(body, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } }));
    }
    this.#controller?.enqueue(typeof text === "string" ? new TextEncoder().encode(text) : text);
    await settle();
  }

  block(name, data, id, retry) {
    const lines = [["retry", retry], ["id", id], ["event", name === "message" ? undefined : name]];
    const head = lines.filter(([, value]) => value !== undefined).map(([line, value]) => `${line}: ${value}\n`).join("");
    return this.bytes(`${head}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
  }

  connected(more = {}, id, retry) {
    return this.block("connected", { connection: "c1", node: "n1", heartbeat_ms: QUIET_MS, pending: [], ...more }, id, retry);
  }

  event(event, id) { return this.block("message", { topic: "live:42", at: Date.now(), data: {}, ...event }, id); }

  /** The connection breaks. */
  async cut() {
    this.#break(new TypeError("network"));
    this.#end((controller) => controller.error(new TypeError("network")));
    await settle();
  }

  /** A status other than 200. */
  async fail(response) {
    this.#answer(response);
    await settle();
  }
}

export const problem = (status, detail, headers = {}) => new Response(JSON.stringify({ detail }), { status, headers });
export const json = (value, status = 200) => new Response(JSON.stringify(value), { status });

/** Replaces a global for the length of a test. */
export function replace(t, name, value) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  t.after(() => {
    if (before) Object.defineProperty(globalThis, name, before);
    else delete globalThis[name];
  });
}

/** A browser for one test. */
export function browser(t) {
  const page = new EventTarget(), sources = [], polls = [], requests = [], mistakes = [], subscriptions = new Map();
  const world = {
    page,
    /** Every request for a stream. */
    sources,
    /** Every poll. */
    polls,
    /** Every other request: method, path, query, headers, body (parsed), keepalive, signal. */
    requests,
    /** What handlers threw. */
    mistakes,
    /** What Math.random gives. */
    random: 0.5,
    document: { hidden: false, visibilityState: "visible" },
    /** The server: takes a request, gives a Response or a promise of one; undefined means as usual. */
    answer: () => undefined,
    /** The newest request for a stream. */
    get source() { return sources.at(-1); },
    get poll() { return polls.at(-1); },
    posts: (end) => requests.filter((request) => request.method === "POST" && request.path.endsWith(end)),
    async tick(ms) {
      t.mock.timers.tick(ms);
      await settle();
    },
    /** A connection, its states and its events. */
    async start({ url = BASE, topics = ["live:42"], ...options } = {}) {
      const stream = connect(url, options);
      world.stream = stream;
      const states = [], events = [];
      stream.on("state", (state) => states.push(state));
      stream.on("event", (event) => events.push(event));
      t.after(() => stream.close());
      world.add(...topics);
      await settle();
      return { stream, states, events };
    },
    /** An open one. */
    async open(options) {
      const made = await world.start(options);
      await world.source.connected();
      return made;
    },
    /** One subscription a topic. */
    add(...topics) {
      for (const topic of topics) subscriptions.set(topic, world.stream.subscribe(topic));
    },
    remove(...topics) {
      for (const topic of topics) {
        subscriptions.get(topic).close();
        subscriptions.delete(topic);
      }
    },
    get topics() { return [...subscriptions.values()].filter(({ state }) => state !== "closed").map(({ topic }) => topic); },
  };

  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: T });
  t.mock.method(performance, "now", () => Date.now() - T);
  t.mock.method(Math, "random", () => world.random);
  replace(t, "document", world.document);
  replace(t, "addEventListener", page.addEventListener.bind(page));
  // What a handler throws goes to the page's error handler; here it would end the test.
  const microtask = globalThis.queueMicrotask;
  replace(t, "queueMicrotask", (act) => microtask(() => { try { act(); } catch (error) { mistakes.push(error); } }));
  replace(t, "fetch", async (url, init) => {
    const { method = "GET", body, keepalive, signal, credentials } = init;
    const { pathname: path, searchParams: query } = new URL(url), headers = Object.fromEntries(new Headers(init.headers));
    if (method === "GET" && path.endsWith("/v1/events")) {
      const source = new Source(url, init);
      sources.push(source);
      return source.response;
    }
    if (path.endsWith("/v1/poll")) {
      const poll = new Poll(url, init);
      polls.push(poll);
      return poll.response;
    }
    const request = { method, path, query, headers, body: body && JSON.parse(body), keepalive, signal, credentials };
    requests.push(request);
    const answer = await world.answer(request);
    if (answer) return answer;
    if (path === "/v1/time") return json({ now: Date.now() });
    if (path.endsWith("/topics")) return json({ topics: [], pending: [] });
    return method === "POST" ? new Response(null, { status: 204 }) : new Response("");
  });
  return world;
}
