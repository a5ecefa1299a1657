// Green dots: who of the members on the page is here. Every avatar names its member, so one style rule each shows it.
import { $, encode } from "./context.js";
import { Present } from "./talk.js";

// A stream has at most 100 topics; two are the video's and the conversation's.
const FOLLOWED_MAX = 60;
// Members appear together, when a list is shown: one question for all of them.
const ASK_MS = 150;
const topicOf = (/** @type {string} */ member) => `presence:${encode(member)}`;

export class Dots {
  #present = new Present(FOLLOWED_MAX);
  #stream; #now;
  /** By member. @type {Map<string, import("../../packages/js/types.d.ts").Subscription>} */ #subscriptions = new Map();
  /** @type {Set<string>} */ #unasked = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {import("../../packages/js/types.d.ts").Connection} stream @param {() => number} now the server's time */
  constructor(stream, now) {
    this.#stream = stream;
    this.#now = now;
  }

  /** Shows from now on whether these are here. @param {string[]} members */
  follow(members) {
    const { added, dropped } = this.#present.follow([...new Set(members)]);
    for (const member of dropped) {
      this.#subscriptions.get(member)?.close();
      this.#subscriptions.delete(member);
    }
    for (const member of added) {
      const presence = this.#stream.subscribe(topicOf(member), { types: ["presence"] });
      presence.on("event", ({ at, data }) => { if (this.#present.set(member, data?.online === true, at)) this.show(); });
      this.#subscriptions.set(member, presence);
    }
    if (added.length > 0) this.#ask(added);
    this.show();
  }

  /** Asks again for all, after a time without a stream. */
  reload() { this.#ask(this.#present.members); }

  /** @param {string} member */
  online(member) { return this.#present.online(member) === true; }

  /** @param {string[]} members */
  #ask(members) {
    for (const member of members) this.#unasked.add(member);
    if (this.#unasked.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const asked = [...this.#unasked];
      this.#unasked.clear();
      this.#read(asked);
    }, ASK_MS);
  }

  /** @param {string[]} asked */
  async #read(asked) {
    const at = this.#now();
    try {
      const query = new URLSearchParams(asked.map((member) => ["member", member]));
      const response = await fetch(`/v1/presence?${query}`, { cache: "no-store" });
      const { members } = response.ok ? await response.json() : { members: {} };
      for (const [member, { online }] of Object.entries(members ?? {})) this.#present.set(member, online, at);
      this.show();
    } catch { /* The stream tells of what changes, and the next connect asks again. */ }
  }

  /** Paints the dots of all avatars that are on the page. */
  show() {
    for (const one of document.querySelectorAll(".avatar[data-member]")) {
      const avatar = /** @type {HTMLElement} */ (one), online = this.online(avatar.dataset.member ?? "");
      if ((avatar.dataset.online === "true") !== online) avatar.dataset.online = String(online);
    }
    for (const one of document.querySelectorAll("[data-presence-of]")) {
      const online = this.online(/** @type {HTMLElement} */ (one).dataset.presenceOf ?? "");
      one.textContent = online ? " is online" : "";
    }
    $("me-avatar").title = this.online($("me-avatar").dataset.member ?? "") ? "You are seen as online" : "";
  }
}
