// Several tabs of one origin in one process: web locks, channels, and pages that are killed, frozen and busy.
import { connect } from "../../packages/js/fanfare.js";
import { BASE, T, browser, replace, settle } from "./fakes.mjs";

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token as a server mints it, but for its signature. */
export const jwt = (claims) => `${encode({ alg: "EdDSA" })}.${encode({ sub: "ana", exp: T / 1_000 + 3_600, ...claims })}.x`;

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A browser whose tabs share. A tab has a token of its own, by which its requests are known. */
export function tabs(t) {
  const world = browser(t), dead = new Set(), busy = new Set(), channels = new Set(), fetch = globalThis.fetch;
  /** Whose code runs while a tab is opened. */ let running;
  /** Who holds a lock or waits for it, in their order: the first one holds it. */
  const locks = new Map(), queue = (name) => locks.get(name) ?? locks.set(name, []).get(name);
  const aborted = () => new DOMException("aborted", "AbortError");

  async function grant(name) {
    const [first] = queue(name);
    if (!first || first.granted) return;
    first.granted = true;
    await turn();
    // The callback of a tab that died meanwhile runs nowhere.
    if (!dead.has(first.tab)) Promise.resolve(first.act({ name })).then(() => release(name, first));
  }
  function release(name, entry, error) {
    const entries = queue(name), place = entries.indexOf(entry);
    if (place < 0) return;
    entries.splice(place, 1);
    error ? entry.reject(error) : entry.resolve();
    grant(name);
  }
  const navigator = { locks: {
    request: (name, { signal, steal }, act) => new Promise((resolve, reject) => {
      if (world.refusesLocks) return reject(new DOMException("not here", "SecurityError"));
      if (signal?.aborted) return reject(aborted());
      const entry = { tab: running, resolve, reject, act, granted: false };
      if (steal) {
        const [holder] = queue(name);
        queue(name).unshift(entry);
        if (holder) release(name, holder, aborted());
      } else queue(name).push(entry);
      signal?.addEventListener("abort", () => { if (!entry.granted) release(name, entry, aborted()); });
      grant(name);
    }),
    query: async () => ({ held: [...locks].filter(([, entries]) => entries.length > 0).map(([name]) => ({ name })), pending: [] }),
  } };
  class Channel {
    constructor(name) {
      Object.assign(this, { name, tab: running, waits: [] });
      channels.add(this);
    }
    async postMessage(message) {
      const data = structuredClone(message), others = [...channels].filter((other) => other !== this && other.name === this.name);
      if (dead.has(this.tab)) return;
      if (!channels.has(this)) throw new DOMException("Channel is closed", "InvalidStateError");
      world.posted.push(data);
      await turn();
      for (const other of others) other.take(data);
    }
    take(data) {
      if (busy.has(this.tab)) this.waits.push(data);
      else if (channels.has(this) && !dead.has(this.tab)) this.onmessage?.({ data });
    }
    close() { channels.delete(this); }
  }
  replace(t, "navigator", navigator);
  replace(t, "BroadcastChannel", Channel);
  replace(t, "location", new URL(BASE));
  replace(t, "fetch", (url, init) => {
    const { jti } = JSON.parse(Buffer.from(new Headers(init.headers).get("Authorization")?.split(".")[1] ?? "e30", "base64url"));
    return dead.has(jti) ? new Promise(() => {}) : fetch(url, init);
  });

  return Object.assign(world, {
    channels,
    /** What went through channels. */
    posted: [],
    /** Every group of tabs that there is. */
    groups: () => new Set([...channels].map(({ name }) => name)),
    /** A tab with these topics, and what it hears. */
    async tab(name, topics, { claims, ...options } = {}) {
      running = name;
      const page = new EventTarget(), document = Object.assign(new EventTarget(), world.document);
      Object.assign(globalThis, { document, addEventListener: page.addEventListener.bind(page) });
      const connection = connect(BASE, { token: jwt({ jti: name, ...claims }), ...options });
      const tab = { name, page, document, connection, states: [], events: [], gaps: [], connected: [], subscriptions: new Map() };
      connection.on("state", ({ state, status }) => tab.states.push(status ?? state));
      connection.on("event", (event) => tab.events.push(event.id));
      connection.on("connected", (told) => tab.connected.push(told.connection));
      connection.on("gap", (gap) => tab.gaps.push(gap));
      tab.follow = (topic) => tab.subscriptions.set(topic, connection.subscribe(topic)).get(topic);
      topics.forEach(tab.follow);
      t.after(() => connection.close());
      await settle();
      await settle();
      running = undefined;
      return tab;
    },
    /** Ends a tab as a crash does. */
    async kill({ name }) {
      dead.add(name);
      for (const [lock, entries] of locks) for (const entry of entries.filter(({ tab }) => tab === name)) release(lock, entry);
      for (const channel of channels) if (channel.tab === name) channels.delete(channel);
      await settle();
      await settle();
    },
    /** A tab whose code does not come to run, and where it does again. */
    busy: ({ name }) => busy.add(name),
    async idle({ name }) {
      busy.delete(name);
      for (const channel of channels) for (const data of channel.tab === name ? channel.waits.splice(0) : []) channel.take(data);
      await settle();
    },
  });
}
