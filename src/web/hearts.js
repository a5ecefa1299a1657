// Hearts: reactions that rise over the stage. Bounded three ways, so that a burst of a million likes
// costs a phone no more than a busy second: hearts started a frame, hearts alive, hearts waiting. Reactions take
// turns, so that a rare one is seen in the middle of a burst of another.

const PER_FRAME = 4;
const ALIVE_MAX = 90;
const WAITING_MAX = 36; // of each reaction
const SVG = "http://www.w3.org/2000/svg";

/** An icon of the page's sprite sheet. @param {string} reaction */
export function icon(reaction) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${reaction}`);
  svg.append(use);
  return svg;
}

export class Hearts {
  #layer; /** @type {Map<string, {count: number, mine: boolean}>} */ #waiting = new Map(); #alive = 0; #shown = 0; #scheduled = false; #height = 0; #places = ALIVE_MAX;

  /** @param {HTMLElement} layer */
  constructor(layer) {
    this.#layer = layer;
    new ResizeObserver(([{ contentRect: { width, height } }]) => {
      this.#height = height;
      // On a phone's width fewer are already a crowd.
      this.#places = Math.min(ALIVE_MAX, Math.max(ALIVE_MAX / 2, Math.round(width / 10)));
    }).observe(layer);
  }

  /**
   * Lets `count` hearts of a reaction rise; what is beyond the bounds is not shown, only counted by the page.
   * @param {string} reaction @param {number} count @param {boolean} mine
   */
  rise(reaction, count, mine) {
    // Nobody sees a hidden tab, and browsers hold its frames back: a pile of hearts would wait there.
    if (document.hidden) return;
    const queue = this.#waiting.get(reaction) ?? { count: 0, mine: false };
    queue.count = Math.min(WAITING_MAX, queue.count + count);
    queue.mine ||= mine;
    this.#waiting.set(reaction, queue);
    this.#schedule();
  }

  // A Map keeps the order in which its keys were added: the first is served and goes to the end.
  #next() {
    const [[reaction, queue]] = this.#waiting;
    const heart = { reaction, mine: queue.mine };
    this.#waiting.delete(reaction);
    queue.mine = false;
    if (--queue.count > 0) this.#waiting.set(reaction, queue);
    return heart;
  }

  #schedule() {
    if (this.#scheduled || this.#waiting.size === 0) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      for (let i = 0; i < PER_FRAME && this.#alive < this.#places && this.#waiting.size > 0; i++) this.#start(this.#next());
      // With all places taken, the next heart that ends schedules again.
      if (this.#alive < this.#places) this.#schedule();
    });
  }

  /** @param {{reaction: string, mine: boolean}} heart */
  #start({ reaction, mine }) {
    const heart = document.createElement("span");
    heart.className = mine ? "heart mine" : "heart";
    heart.dataset.reaction = reaction;
    const height = (this.#height || 400) * (0.62 + Math.random() * 0.33);
    const style = heart.style;
    style.setProperty("--x", (Math.random() * 24).toFixed(1));
    style.setProperty("--size", `${Math.round((mine ? 40 : 26) + Math.random() * 14)}px`);
    style.setProperty("--sway", `${Math.round(4 + Math.random() * 12)}px`);
    style.setProperty("--delay", `${(-Math.random() * 2.6).toFixed(2)}s`);
    style.setProperty("--duration", `${(2.6 + Math.random() * 1.6).toFixed(2)}s`);
    style.setProperty("--height", `${Math.round(height)}px`);
    heart.append(icon(reaction));
    heart.addEventListener("animationend", (event) => {
      if (event.target !== heart) return;
      heart.remove();
      this.#alive--;
      this.#schedule();
    });
    this.#alive++;
    this.#layer.dataset.shown = String(++this.#shown);
    this.#layer.append(heart);
  }
}
