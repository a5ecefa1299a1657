// Pictures: how a figure went in the last minute, and how long hops took.

import { svg } from "./words.js";

/** Figures that a line shows. */
export const MINUTE = 60;
const WIDTH = 120, HEIGHT = 34;

/** A line of the last minute. */
export class Spark {
  #line = svg("path", { class: "line", "vector-effect": "non-scaling-stroke" });
  #area = svg("path", { class: "area" });
  element = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.#area, this.#line);

  /** @param {number[]} values the newest last */
  show(values) {
    const most = Math.max(...values, 1e-9), step = WIDTH / (MINUTE - 1);
    const points = values.map((value, at) => {
      const x = WIDTH - (values.length - 1 - at) * step, y = HEIGHT - 2 - (value / most) * (HEIGHT - 6);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    });
    if (points.length < 2) return;
    this.#line.setAttribute("d", `M${points.join("L")}`);
    this.#area.setAttribute("d", `M${points.join("L")}L${WIDTH},${HEIGHT}L${points[0].split(",")[0]},${HEIGHT}Z`);
  }
}

/** The ends of the axis of times, in microseconds. */
const LOW = 4, HIGH = 12_000_000;
/** Where a time is on it, from 0 to 100. @param {number} us */
const place = (us) => 100 * Math.log(Math.max(LOW, Math.min(HIGH, us)) / LOW) / Math.log(HIGH / LOW);

/** @type {[number, string][]} */
const TICKS = [[10, "10 µs"], [100, "100 µs"], [1_000, "1 ms"], [10_000, "10 ms"], [100_000, "100 ms"], [1_000_000, "1 s"], [10_000_000, "10 s"]];

/** The axis above strips, and lines through them. */
export function axis() {
  const element = document.createElement("div");
  element.className = "axis";
  for (const [us, text] of TICKS) {
    const tick = document.createElement("span");
    tick.style.left = `${place(us)}%`;
    tick.textContent = text;
    element.append(tick);
  }
  return element;
}

/** How often a hop took how long: the denser, the more; with the quantiles, and the error where there are two clocks. */
export class Strip {
  element = svg("svg", { class: "strip", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });

  /** @param {number[]} counts @param {number[]} bounds in µs @param {number | undefined} p50 @param {number | undefined} p99 @param {number | null} error */
  show(counts, bounds, p50, p99, error) {
    const most = Math.max(...counts, 1);
    const grid = TICKS.map(([us]) => svg("rect", { class: "grid", x: place(us), y: 0, width: 0.15, height: 10 }));
    const cells = counts.flatMap((count, at) => {
      if (count === 0) return [];
      const from = place(at === 0 ? LOW : bounds[at - 1]), to = place(at < bounds.length ? bounds[at] : HIGH);
      return [svg("rect", { class: "cell", x: from, y: 2, width: Math.max(0.4, to - from), height: 6, "fill-opacity": (0.12 + 0.78 * Math.sqrt(count / most)).toFixed(2) })];
    });
    const mark = (/** @type {string} */ name, /** @type {number | undefined} */ us) => us === undefined ? [] : [svg("rect", { class: name, x: place(us) - 0.25, y: 0, width: 0.5, height: 10 })];
    const whisker = error === null || p50 === undefined ? [] : (() => {
      const from = place(p50 - error), to = place(p50 + error);
      return [svg("rect", { class: "error", x: from, y: 9, width: Math.max(0.4, to - from), height: 1 })];
    })();
    this.element.replaceChildren(...grid, ...cells, ...whisker, ...mark("p50", p50), ...mark("p99", p99));
  }
}

/**
 * The time that this part of all was within, straight between the bounds of its bucket; nothing where nothing was measured.
 * @param {number[]} counts @param {number[]} bounds @param {number} part
 */
export function quantile(counts, bounds, part) {
  const wanted = part * counts.reduce((sum, count) => sum + count, 0);
  let before = 0;
  for (const [at, count] of counts.entries()) {
    if (count > 0 && before + count >= wanted) {
      const low = at === 0 ? 0 : bounds[at - 1], high = bounds[at] ?? low;
      return low + (high - low) * ((wanted - before) / count);
    }
    before += count;
  }
  return undefined;
}
