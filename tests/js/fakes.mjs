// A browser and a server that obey the test: EventSource, fetch, the clock, chance, and the page's events.
import { readFile } from "node:fs/promises";

// The page's modules end in .js and belong to no Node package, so the source is imported as what it is: a module.
const source = await readFile(new URL("../../src/web/fanfare.js", import.meta.url), "utf8");
export const { connect } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

/** The browser's time when a test starts, Unix ms. */
export const T = 1_732_313_131_000;
export const BASE = "http://fanfare.test";

/** Lets everything happen that waits for no clock. */
export async function settle() {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** As the WHATWG's, with the server's side in the test's hands. */
class FakeEventSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  readyState = FakeEventSource.CONNECTING;
  #lastEventId = "";

  constructor(url, init) {
    super();
    this.url = new URL(url);
    this.init = init;
  }

  get query() { return this.url.searchParams; }

  close() { this.readyState = FakeEventSource.CLOSED; }

  /** One block of the stream. As the standard has it, a block without an `id:` line carries the last one's. */
  block(type, data, id) {
    if (this.readyState === FakeEventSource.CLOSED) return;
    if (id !== undefined) this.#lastEventId = id;
    this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data), lastEventId: this.#lastEventId }));
  }

  connected(more = {}, id) {
    this.readyState = FakeEventSource.OPEN;
    this.block("connected", { connection: "c1", node: "n1", heartbeat_ms: 20_000, pending: [], ...more }, id);
  }

  event(event, id) { this.block("message", { topic: "live:42", at: Date.now(), data: {}, ...event }, id); }

  /** The connection breaks; a browser would come back by itself. */
  cut() {
    this.readyState = FakeEventSource.CONNECTING;
    this.dispatchEvent(new Event("error"));
  }

  /** A status other than 200: a browser gives up. */
  fail() {
    this.readyState = FakeEventSource.CLOSED;
    this.dispatchEvent(new Event("error"));
  }
}

export const problem = (status, detail, headers = {}) => new Response(JSON.stringify({ detail }), { status, headers });
export const json = (value, status = 200) => new Response(JSON.stringify(value), { status });

/** Replaces a global for the length of a test. */
function replace(t, name, value) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  t.after(() => {
    if (before) Object.defineProperty(globalThis, name, before);
    else delete globalThis[name];
  });
}

/** A browser for one test. */
export function browser(t) {
  const page = new EventTarget(), sources = [], requests = [], mistakes = [];
  const world = {
    page,
    /** Every EventSource that was made. */
    sources,
    /** Every request by fetch: method, path, query, headers, body (parsed), keepalive, signal. */
    requests,
    /** What handlers threw. */
    mistakes,
    /** What Math.random gives. */
    random: 0.5,
    document: { hidden: false, visibilityState: "visible" },
    /** The server: takes a request, gives a Response or a promise of one; undefined means as usual. */
    answer: () => undefined,
    /** The newest EventSource. */
    get source() { return sources.at(-1); },
    posts: (end) => requests.filter((request) => request.method === "POST" && request.path.endsWith(end)),
    async tick(ms) {
      t.mock.timers.tick(ms);
      await settle();
    },
    /** A stream, its states and its events. */
    async start(options = {}) {
      const stream = connect({ url: BASE, topics: ["live:42"], ...options });
      const states = [], events = [];
      stream.on("state", (state) => states.push(state));
      stream.on("*", (event) => events.push(event));
      t.after(() => stream.close());
      await settle();
      return { stream, states, events };
    },
    /** An open one. */
    async open(options) {
      const made = await world.start(options);
      world.source.connected();
      await settle();
      return made;
    },
  };

  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: T });
  t.mock.method(performance, "now", () => Date.now() - T);
  t.mock.method(Math, "random", () => world.random);
  replace(t, "document", world.document);
  replace(t, "addEventListener", page.addEventListener.bind(page));
  replace(t, "EventSource", class extends FakeEventSource {
    constructor(...all) {
      super(...all);
      sources.push(this);
    }
  });
  // What a handler throws goes to the page's error handler; here it would end the test.
  const microtask = globalThis.queueMicrotask;
  replace(t, "queueMicrotask", (act) => microtask(() => { try { act(); } catch (error) { mistakes.push(error); } }));
  replace(t, "fetch", async (url, { method = "GET", headers = {}, body, keepalive, signal, credentials }) => {
    const { pathname: path, searchParams: query } = new URL(url);
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
