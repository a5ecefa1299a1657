// One stream for all tabs of an origin that may hear the same: one of them leads, has the stream, and passes on what it hears.
//
// A browser gives a web lock to one tab, and to the next one as soon as that is gone. Each tab holds a lock of its own besides,
// so that the others learn of its end without a word from it. What one tab posts to a channel reaches all others in one order,
// so who begins to lead, and has had an answer of every tab, knows all that the last one passed on: it resumes from there.
import { Stream } from "./stream.js";
import { Newest } from "./topics.js";

/**
 * @typedef {import("./server.js").Server} Server
 * @typedef {import("./stream.js").Message} Message
 * @typedef {import("./stream.js").Wanted} Wanted
 * @typedef {import("../types.d.ts").State} State
 * @typedef {import("../types.d.ts").StateChange} StateChange
 */

/**
 * What goes through the channel. `tab`: here is one, with what it wants, `fresh` before it was let in. `leads`: another one leads,
 * so all say `tab` again. `says`: what the leader hears, for all or for one; `state` and `place` come with the first words to a
 * fresh one. `alone`: this one is to have its own stream. `late`: the leader seems to have missed something.
 * @typedef {{kind: "tab", from: string, wants: string[], fresh: boolean} | {kind: "leads", term: number}
 *   | {kind: "says", term: number, to?: string, first?: First, messages: Message[]} | {kind: "alone", to: string}
 *   | {kind: "late"}} Envelope
 * @typedef {{state: State, connected: any, place: string}} First `connected`: what the stream said first; nothing of polls
 */

/**
 * A tab's own part.
 * @typedef {{before: () => import("./stream.js").Before, tell: (message: Message) => void,
 *   enter: (first: First) => Promise<boolean>, alone: () => void, ended: () => void}} Tab `enter`: gives whether this
 *   tab may hear the stream, and catches up with it; `alone`: it cannot share; `ended`: its token has
 */

/** A tab that is busy for longer begins anew with its topics. */
const ROLL_CALL_MS = 700;
/** A leader that is well says a word at least when it is asked; one that a browser has put to sleep does not. */
const SILENT_MS = 15_000;
const SILENT_FIRST_MS = 5_000;
const STUCK_MS = 3_000;

/** Whether tabs can share here: browsers have locks on pages that came safely (https:, localhost) only. */
export const possible = () => Boolean(globalThis.navigator?.locks && globalThis.BroadcastChannel && globalThis.location);

/** What the one who leads knows. */
class Lead {
  /** @type {Stream | undefined} */ stream;
  /** What each tab wants, by its name. @type {Map<string, Set<string>>} */ tabs = new Map();
  /** By topic that the stream has. @type {Map<string, Newest>} */ served = new Map();
  /** @type {State} */ state = "connecting";
  /** What the stream said first. @type {any} */ connected;
  place = "";
  /** To be passed on. @type {Message[]} */ heard = [];
  /** Somebody has answered. */ answered = () => {};
  ended = new AbortController();
}

export class Tabs {
  #group;
  #server;
  /** @type {Wanted} */ #wanted;
  /** @type {Tab} */ #tab;
  #name = crypto.randomUUID();
  /** @type {BroadcastChannel | undefined} */ #channel;
  #ended = new AbortController();
  /** Whether nobody has let it in. */ #fresh = true;
  /** Of the leader that is heard; a later one has a greater one. */ #term = 0;
  /** @type {Lead | undefined} */ #lead;
  /** What comes while it catches up. @type {Message[] | undefined} */ #held;
  #posting = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #watching;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retrying;

  /** @param {string} group the same for all that may hear the same @param {Server} server @param {Wanted} wanted @param {Tab} tab */
  constructor(group, server, wanted, tab) {
    this.#group = group;
    this.#server = server;
    this.#wanted = wanted;
    this.#tab = tab;
  }

  /** Whether this tab has the stream. */
  get leads() { return this.#lead !== undefined; }

  start() {
    this.#hold(`${this.#group} ${this.#name}`, {}, () => {
      this.#channel = new BroadcastChannel(this.#group);
      this.#channel.onmessage = ({ data }) => { if (!this.#ended.signal.aborted) this.#take(data); };
      this.#enter();
    });
  }

  /**
   * Holds a lock, from when it is free until this tab leaves, or another one takes it.
   * @param {string} name @param {LockOptions} options @param {() => void} act @param {() => void} [lost]
   */
  async #hold(name, options, act, lost) {
    const { signal } = this.#ended;
    try {
      await navigator.locks.request(name, options, async () => {
        if (signal.aborted) return;
        act();
        await new Promise((resolve) => signal.aborted ? resolve(0) : signal.addEventListener("abort", resolve));
      });
    } catch (error) {
      if (signal.aborted) return;
      if (lost && /** @type {Error} */ (error).name === "AbortError") lost();
      // Some frames may have none.
      else this.#tab.alone();
    }
  }

  /** Leads as soon as nobody else does. @param {LockOptions} options */
  #compete(options) {
    const lead = new Lead();
    this.#hold(this.#group, options, () => this.#begin(lead), () => this.#resign(lead));
  }

  /** Says that it is there. */
  #enter() {
    this.#ask();
    this.#compete({ signal: this.#ended.signal });
    this.#watch();
  }

  /** For good, without a word. */
  close() {
    this.#ended.abort();
    this.#end();
    this.#channel?.close();
    this.#channel = undefined;
    clearTimeout(this.#watching);
    clearTimeout(this.#retrying);
  }

  /** Gives whether it was for this tab to do. */
  reconnect() {
    this.#lead?.stream?.reconnect();
    return this.#lead?.stream !== undefined;
  }

  soon() { this.#lead?.stream?.soon(); }

  late() { this.#lead ? this.#lead.stream?.late() : this.#doubt(); }

  /** Other topics are wanted. */
  changed() {
    // Those of one turn together.
    if (this.#posting) return;
    this.#posting = true;
    queueMicrotask(() => {
      this.#posting = false;
      if (this.#ended.signal.aborted) return;
      if (this.#lead) this.#want(this.#name, this.#wanted.names);
      else this.#ask();
    });
  }

  /** @param {Envelope} envelope */
  #post(envelope) { this.#channel?.postMessage(envelope); }

  #ask() { this.#post({ kind: "tab", from: this.#name, wants: this.#wanted.names, fresh: this.#fresh }); }

  /** @param {Envelope} envelope */
  #take(envelope) {
    const lead = this.#lead;
    if (envelope.kind === "leads" && envelope.term > this.#term) {
      this.#term = envelope.term;
      if (lead) this.#resign(lead);
      else this.#ask();
      this.#watch();
    } else if (envelope.kind === "says" && !lead) this.#listen(envelope);
    else if (envelope.kind === "alone" && envelope.to === this.#name) this.#tab.alone();
    else if (envelope.kind === "tab" && lead) this.#meet(lead, envelope.from, envelope.wants, envelope.fresh);
    else if (envelope.kind === "late" && lead) {
      lead.stream?.late();
      this.#hear(lead, { kind: "alive" });
    }
  }

  // ---- of who follows

  /** @param {Envelope & {kind: "says"}} envelope */
  #listen({ term, to, first, messages }) {
    if (term < this.#term || (to ?? this.#name) !== this.#name || (this.#fresh && !first)) return;
    this.#term = term;
    this.#watch();
    if (this.#server.ended) return this.#tab.ended();
    if (first && this.#fresh) this.#letIn(first);
    for (const message of messages) this.#held ? this.#held.push(message) : this.#told(message);
  }

  /** @param {First} first */
  async #letIn(first) {
    const { signal } = this.#ended;
    this.#fresh = false;
    const held = this.#held = /** @type {Message[]} */ ([]), entered = await this.#tab.enter(first);
    if (signal.aborted) return;
    if (!entered) return this.#tab.alone();
    // Who leads now hears it again.
    if (this.#held !== held) return;
    this.#held = undefined;
    for (const message of held) this.#told(message);
  }

  /** @param {Message} message */
  #told(message) {
    if (this.#ended.signal.aborted) return;
    const ms = message.kind === "state" ? message.change.retryMs : undefined;
    // The leader's own timers may be late, if it is hidden.
    if (ms !== undefined) {
      clearTimeout(this.#retrying);
      this.#retrying = setTimeout(() => this.#post({ kind: "late" }), ms);
    }
    this.#tab.tell(message);
  }

  /** Looks for a word of who leads. */
  #watch() {
    clearTimeout(this.#watching);
    if (this.#channel && !this.#lead) this.#watching = setTimeout(() => this.#doubt(), this.#fresh ? SILENT_FIRST_MS : SILENT_MS);
  }

  /** Takes the place of a leader that is there and does nothing: one that sleeps without a word, or stands in a debugger. */
  #doubt() {
    if (!this.#channel) return;
    clearTimeout(this.#watching);
    this.#post({ kind: "late" });
    // Not all together.
    this.#watching = setTimeout(() => this.#compete({ steal: true }), STUCK_MS * (1 + Math.random()));
  }

  // ---- of who leads

  /** @param {Lead} lead */
  async #begin(lead) {
    if (this.#lead) return;
    this.#lead = lead;
    this.#held = undefined;
    ({ state: lead.state, place: lead.place } = this.#tab.before());
    clearTimeout(this.#watching);
    clearTimeout(this.#retrying);
    // The tabs of a browser have one clock.
    this.#term = Math.max(this.#term + 1, Date.now());
    this.#post({ kind: "leads", term: this.#term });
    await this.#rollCall(lead);
    if (this.#lead !== lead) return;
    this.#fresh = false;
    lead.tabs.set(this.#name, new Set(this.#wanted.names));
    const before = this.#tab.before();
    lead.place = before.place;
    const wanted = this.#wanted, tabs = lead.tabs;
    const all = {
      get names() { return [...new Set([...tabs.values()].flatMap((wants) => [...wants]))]; },
      has: (/** @type {string} */ name) => [...tabs.values()].some((wants) => wants.has(name)),
      get more() { return wanted.more; },
      get all() { return wanted.all; },
    };
    lead.stream = new Stream(this.#server, all, before, (message) => this.#hear(lead, message));
    lead.stream.start();
  }

  /** Waits until all tabs that live have said what they want, but not for long. @param {Lead} lead */
  async #rollCall(lead) {
    const own = `${this.#group} `, { held = [] } = await navigator.locks.query().catch(() => ({ held: [] }));
    const living = held.flatMap(({ name = "" }) => name.startsWith(own) ? name.slice(own.length) : []).filter((name) => name !== this.#name);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, ROLL_CALL_MS);
      lead.answered = () => {
        if (!living.every((name) => lead.tabs.has(name))) return;
        clearTimeout(timer);
        resolve(0);
      };
      lead.answered();
    });
  }

  /** @param {Lead} lead @param {string} name @param {string[]} wants @param {boolean} fresh */
  #meet(lead, name, wants, fresh) {
    const { state, connected, place } = lead;
    if (!lead.tabs.has(name)) {
      // It is free once that tab is gone.
      navigator.locks.request(`${this.#group} ${name}`, { signal: lead.ended.signal }, () => {
        lead.tabs.delete(name);
        lead.answered();
        lead.stream?.changed();
      }).catch(() => {});
    }
    if (fresh) {
      /** @type {Message[]} */
      const messages = state === "open" ? [{ kind: "open", topics: [], fresh: true }] : [];
      if (connected) messages.push({ kind: "told", name: "connected", data: connected });
      this.#say(lead, messages, name, { state, connected, place });
    }
    this.#want(name, wants);
    lead.answered();
  }

  /** @param {string} name @param {string[]} topics */
  #want(name, topics) {
    const lead = /** @type {Lead} */ (this.#lead), { stream, tabs, served } = lead;
    const before = tabs.get(name) ?? new Set(), wants = new Set(topics);
    tabs.set(name, wants);
    const asked = topics.filter((topic) => !before.has(topic) && served.has(topic));
    const newest = asked.flatMap((topic) => [.../** @type {Newest} */ (served.get(topic)).values()]);
    if (asked.length > 0) this.#say(lead, [{ kind: "added", topics: asked, newest }], name);
    const left = [...before].filter((topic) => !wants.has(topic) && [...tabs.values()].some((others) => others.has(topic)));
    if (left.length > 0) this.#say(lead, [{ kind: "removed", topics: left }], name);
    stream?.changed();
  }

  /** What the stream tells. @param {Lead} lead @param {Message} message */
  #hear(lead, message) {
    if (this.#lead !== lead) return;
    const { served, tabs } = lead;
    if (message.kind === "event") served.get(message.event.topic)?.take(message.event);
    else if (message.kind === "place") lead.place = message.place;
    else if (message.kind === "open") {
      lead.state = "open";
      if (message.fresh) lead.connected = undefined;
      for (const topic of [...served.keys()]) if (!message.topics.includes(topic)) served.delete(topic);
      for (const topic of message.topics) if (!served.has(topic)) served.set(topic, new Newest());
    } else if (message.kind === "added") for (const topic of message.topics) served.set(topic, new Newest());
    else if (message.kind === "removed") for (const topic of message.topics) served.delete(topic);
    else if (message.kind === "told" && message.name === "connected") lead.connected = message.data;
    else if (message.kind === "state") {
      lead.state = message.change.state;
      lead.connected = undefined;
      // The others may have better tokens.
      if (lead.state === "closed") return this.#refused(message);
    } else if (message.kind === "refused") {
      const { topic, answer } = message, asked = [...tabs].filter(([, wants]) => wants.delete(topic)).map(([name]) => name);
      // Too many together, perhaps, and each for itself would have it.
      if (answer.status === 400 && asked.length < tabs.size) {
        for (const to of asked) this.#post({ kind: "alone", to });
        if (asked.includes(this.#name)) this.#tab.alone();
        return;
      }
    }
    if (lead.heard.length === 0) queueMicrotask(() => this.#flush(lead));
    lead.heard.push(message);
    this.#tab.tell(message);
  }

  /** @param {Message} message */
  #refused(message) {
    const { tell } = this.#tab;
    this.close();
    tell(message);
  }

  /** @param {Lead} lead */
  #flush(lead) {
    const messages = lead.heard.splice(0);
    if (this.#lead === lead && messages.length > 0) this.#post({ kind: "says", term: this.#term, messages });
  }

  /** To one tab. @param {Lead} lead @param {Message[]} messages @param {string} to @param {First} [first] */
  #say(lead, messages, to, first) {
    if (to === this.#name) {
      for (const message of messages) this.#tab.tell(message);
      return;
    }
    this.#flush(lead);
    this.#post({ kind: "says", term: this.#term, to, first, messages });
  }

  /** Another tab took its place, since this one seemed stuck. @param {Lead} lead */
  #resign(lead) {
    if (this.#lead !== lead) return;
    this.#end();
    this.#enter();
  }

  #end() {
    const lead = this.#lead;
    if (!lead) return;
    this.#lead = undefined;
    lead.ended.abort();
    lead.stream?.close();
  }
}
