// The reactions: buttons, totals, and the lines that tell who reacted.
import { $, avatar, element, memory, number } from "./context.js";
import { icon } from "./hearts.js";
import { Press, REACTIONS } from "./likes.js";

/** @type {Record<string, [string, string]>} */
const NAMES = {
  like: ["Like", "likes this"], celebrate: ["Celebrate", "celebrates"], support: ["Support", "shows support"],
  love: ["Love", "loves this"], insightful: ["Insightful", "finds this insightful"], funny: ["Funny", "finds this funny"],
};
const FEED_MAX = 4;
const FEED_MS = 5_000;
const FEED_EVERY_MS = 250;

/** @param {string[]} names of some @param {number} count of all */
function andOthers(names, count) {
  const rest = count - names.length;
  if (names.length === 0 || rest < 0) return `and ${number(count)} more`;
  return rest > 0 ? `${names.join(", ")} and ${number(rest)} more` : `and ${names.join(" and ")}`;
}

export class Reactions {
  /** @type {Map<string, Press>} */ #presses = new Map();
  /** What was pressed last, and the stage gives. */ last = "love";
  #tally; #notice; #key; #stored; #painted = false; #fedAt = 0; #unfed = 0;

  /**
   * @param {{url: string, video: string, member: string, tally: import("./likes.js").Tally,
   *   notice: (text: string, ms?: number) => void, stored: () => void}} page `stored` is called when a press is
   */
  constructor({ url, video, member, tally, notice, stored }) {
    this.member = member;
    this.#tally = tally;
    this.#notice = notice;
    this.#stored = stored;
    this.#key = `fanfare.pressed.${video}.${member}`;
    const kept = new Set((memory.get(this.#key) ?? "").split(","));
    for (const reaction of REACTIONS) {
      const changed = (/** @type {Press} */ press, /** @type {import("./likes.js").Settled | null} */ outcome) => this.#changed(press, outcome);
      const press = new Press({ url, member, reaction, stored: kept.has(reaction), changed });
      $("reactions").append(this.#button(press));
      this.#presses.set(reaction, press);
      press.show();
    }
  }

  /** @param {Press} press */
  #button(press) {
    const { reaction } = press, label = NAMES[reaction][0];
    const button = element("button", "reaction");
    button.type = "button";
    button.id = reaction;
    button.dataset.reaction = reaction;
    const text = element("span", "text"), name = element("span", "name"), total = element("span", "number");
    text.append(name, total);
    // The main button's heart takes the button's colour.
    button.append(icon(reaction === "like" ? "heart" : reaction), text);
    press.show = () => {
      const value = this.#tally.get(reaction);
      name.textContent = reaction === "like" && press.wanted ? "Liked" : label;
      total.textContent = number(value);
      total.dataset.value = String(value);
      button.setAttribute("aria-pressed", String(press.wanted));
      button.setAttribute("aria-label", `${label}, ${number(value)}`);
      button.toggleAttribute("data-waiting", press.waiting);
    };
    button.addEventListener("click", () => {
      this.last = reaction;
      press.toggle();
    });
    return button;
  }

  /** @param {Press} press @param {import("./likes.js").Settled | null} outcome */
  #changed(press, outcome) {
    press.show();
    const what = NAMES[press.reaction][0].toLowerCase();
    if (outcome?.kind === "stored") {
      memory.set(this.#key, [...this.#presses.values()].filter((one) => one.stored).map((one) => one.reaction).join(","));
      if (![...this.#presses.values()].some((one) => one.waiting)) this.#notice("");
      this.#stored();
    } else if (outcome?.kind === "retry") {
      const seconds = Math.max(1, Math.round(outcome.retryMs / 1_000));
      this.#notice(`Your “${what}” is not saved yet: ${outcome.detail} Trying again in ${seconds} s.`);
    } else if (outcome?.kind === "failed") {
      this.#notice(`Your “${what}” could not be saved: ${outcome.detail}`);
    }
  }

  showCounts() {
    if (this.#painted) return;
    // Thousands of likes a second are one change of text a frame.
    this.#painted = true;
    requestAnimationFrame(() => {
      this.#painted = false;
      const sum = this.#tally.sum, count = $("count");
      if (count.dataset.value !== String(sum) && count.textContent !== "–") {
        count.classList.remove("bump");
        void count.offsetWidth;
        count.classList.add("bump");
      }
      count.dataset.value = String(sum);
      count.textContent = number(sum);
      $("count-label").textContent = sum === 1 ? "reaction" : "reactions";
      for (const press of this.#presses.values()) press.show();
    });
  }

  /** Tells who reacted: at most one line in 250 ms can be read; those in between are counted into the next. @param {string} reaction @param {string[]} names the newest first @param {number} many */
  feed(reaction, names, many) {
    this.#unfed += many;
    if (document.hidden || performance.now() - this.#fedAt < FEED_EVERY_MS) return;
    this.#fedAt = performance.now();
    const [who, ...others] = names, count = this.#unfed, comma = others.length > 0 && count > names.length ? "," : "",
      item = element("li"), feed = $("feed");
    this.#unfed = 0;
    item.append(
      avatar(who),
      element("span", "who", (who === this.member ? `${who} (you)` : who) + comma),
      element("span", "said", count > 1 ? andOthers(others, count - 1) : NAMES[reaction]?.[1] ?? "reacts"),
      icon(reaction),
    );
    feed.append(item);
    while (feed.children.length > FEED_MAX) feed.firstElementChild?.remove();
    setTimeout(() => item.classList.add("leaving"), FEED_MS);
    setTimeout(() => item.remove(), FEED_MS + 600);
  }
}
