// A video's rules, as the stream tells them to all; and what sets them and gives time-outs, for whoever may moderate.
import { Reader, request } from "./api.js";
import { $ } from "./context.js";

/** @typedef {{slow_seconds: number, comments: string}} Rules */

const UNITS = /** @type {[number, string, string][]} */ ([[86_400, "day", "days"], [3_600, "hour", "hours"], [60, "minute", "minutes"], [1, "second", "seconds"]]);

/** "5 minutes"; of what is no whole number of a unit so many of the next one. @param {number} seconds */
export function lengthText(seconds) {
  const [size, one, many] = UNITS.find(([size]) => seconds >= size && seconds % size === 0) ?? UNITS[3];
  return `${seconds / size} ${seconds === size ? one : many}`;
}

/** What rules mean for who comments; empty where there are none. @param {Rules} rules */
export function rulesText({ slow_seconds, comments }) {
  const parts = [];
  if (comments === "members") parts.push("Members only");
  else if (comments !== "open") parts.push("Moderators only");
  if (slow_seconds > 0) parts.push(`Slow mode: one every ${lengthText(slow_seconds).replace(/^1 /, "")}`);
  return parts.join(" · ");
}

export class Moderation {
  #url; #notice; #slow; #who; #length;

  /** @param {{url: string, notice: (text: string, ms?: number) => void}} page `url` is the video's */
  constructor({ url, notice }) {
    this.#url = url;
    this.#notice = notice;
    this.#slow = /** @type {HTMLSelectElement} */ ($("slow-seconds"));
    this.#who = /** @type {HTMLSelectElement} */ ($("who-comments"));
    this.#length = /** @type {HTMLSelectElement} */ ($("timeout-seconds"));
    // Who may not moderate is refused, and sees nothing of all this.
    this.reader = new Reader(() => `${url}/rules`, (rules) => {
      $("moderate").hidden = false;
      this.told(rules);
    });
    $("moderate").addEventListener("click", () => this.#open(!this.#isOpen()));
    $("moderation").addEventListener("submit", (event) => event.preventDefault());
    this.#slow.addEventListener("change", () => this.#set({ slow_seconds: Number(this.#slow.value) }));
    this.#who.addEventListener("change", () => this.#set({ comments: this.#who.value }));
  }

  #isOpen() { return !$("moderation").hidden; }

  /** @param {boolean} open */
  #open(open) {
    $("moderation").hidden = !open;
    $("moderate").setAttribute("aria-expanded", String(open));
    $("comments").toggleAttribute("data-moderated", open);
  }

  /** Rules that hold now. @param {any} rules */
  told(rules) {
    const slow_seconds = Math.max(0, Number(rules?.slow_seconds) || 0), comments = String(rules?.comments ?? "open");
    const text = rulesText({ slow_seconds, comments });
    $("rules").hidden = text === "";
    $("rules").textContent = text;
    const value = String(slow_seconds);
    // One that somebody else set may be none of those that are offered here.
    if (![...this.#slow.options].some((option) => option.value === value)) this.#slow.add(new Option(lengthText(slow_seconds), value));
    this.#slow.value = value;
    this.#who.value = comments;
  }

  /** @param {Partial<Rules>} change */
  async #set(change) {
    const answer = await request("PUT", `${this.#url}/rules`, change);
    if (answer.ok) this.told(answer.body);
    else {
      this.#notice(`The rules were not changed: ${answer.detail}`);
      this.reader.read();
    }
  }

  /** Gives a member a time-out as long as is chosen. @param {string} member */
  async timeOut(member) {
    const seconds = Number(this.#length.value);
    const answer = await request("POST", `${this.#url}/timeouts`, { member, seconds });
    if (!answer.ok) this.#notice(`${member} got no time-out: ${answer.detail}`);
    else if (seconds === 0) this.#notice(`${member} may comment again.`, 6_000);
    else this.#notice(`${member} may not comment for ${lengthText(seconds)}.`, 6_000);
  }
}
