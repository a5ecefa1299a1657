// Who watches what, and the small things that every part of the page needs.

/** @typedef {"like" | "celebrate" | "support" | "love" | "insightful" | "funny"} Reaction */

const GUESTS = ["ana", "bo", "chen", "dara", "emil", "fatou", "gil", "hana", "ines", "jun", "kofi", "lena", "mo", "nia", "otto", "pia"];
const NAME_CHARACTERS_MAX = 64;
const TOPIC_CHARACTERS_MAX = 190;
export const CROWD_MAX = 1_000;

/** @param {string} id @returns {HTMLElement} */
export const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const format = new Intl.NumberFormat();
/** @param {number} value */
export const number = (value) => format.format(value);

/**
 * Percent-encoding as topics need it: encodeURIComponent leaves some characters that a topic may not have.
 * @param {string} text
 */
export const encode = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

/** sessionStorage can be switched off; the page then lives without a memory of reloads. */
export const memory = {
  /** @param {string} key */
  get(key) { try { return sessionStorage.getItem(key); } catch { return null; } },
  /** @param {string} key @param {string} value */
  set(key, value) { try { sessionStorage.setItem(key, value); } catch { /* nothing kept */ } },
};

/**
 * What the address asks for. A name that no topic can have, or that a path would lose ("." and ".."), is not taken.
 * @param {string} search @param {string | null} known the member of an earlier load @param {() => number} random
 */
export function readQuery(search, known, random = Math.random) {
  const query = new URLSearchParams(search);
  const place = (/** @type {string} */ name, /** @type {string} */ otherwise) => {
    const asked = (query.get(name) ?? "").trim();
    return asked === "" || asked === "." || asked === ".." || encode(asked).length > TOPIC_CHARACTERS_MAX ? otherwise : asked;
  };
  const video = place("video", "42");
  const guest = () => `${GUESTS[Math.floor(random() * GUESTS.length)]}-${random().toString(36).slice(2, 6)}`;
  const named = [...(query.get("member") ?? "").trim()].slice(0, NAME_CHARACTERS_MAX).join("");
  const crowd = Math.floor(Number(query.get("members")));
  return {
    video,
    conversation: place("chat", video),
    chatAsked: query.has("chat"),
    member: named || known || guest(),
    named: named !== "",
    crowd: crowd > 0 ? Math.min(CROWD_MAX, crowd) : 0,
  };
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {string} [className] @param {string} [text]
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/**
 * A member's round initial; its green dot follows from `data-member` (see `dots.js`).
 * @param {string} who
 */
export function avatar(who) {
  const made = element("span", "avatar", [...who][0] ?? "?");
  made.dataset.member = who;
  made.setAttribute("aria-hidden", "true");
  made.style.setProperty("--hue", String([...who].reduce((hue, c) => (hue * 31 + (c.codePointAt(0) ?? 0)) % 360, 7)));
  return made;
}

/** @param {number} at Unix ms */
export function clockTime(at) {
  const made = element("time", "when", new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  made.dateTime = new Date(at).toISOString();
  return made;
}
