// Latency by hop, as a picture: each hop on the way of sampled events, and then the whole way, on one axis of times.

import { Strip, axis, quantile } from "./charts.js";
import { HOPS, count, el, list, say, time } from "./words.js";

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

let wholeTime = false;
let className = "all";
/** @type {any[]} */
let shown = [];

/** The rows of a snapshot by hop, of one class or all. @param {any} snapshot @param {string} of */
function rows(snapshot, of) {
  /** @type {Map<string, {name: string, whole: boolean, counts: number[], bounds: number[], error: number | null}>} */
  const rows = new Map();
  const add = (/** @type {any} */ spread, /** @type {boolean} */ whole, /** @type {number[]} */ bounds) => {
    if (of !== "all" && spread.class !== of) return;
    const row = rows.get(spread.name) ?? { name: spread.name, whole, counts: new Array(bounds.length + 1).fill(0), bounds, error: spread.error_us ?? null };
    spread.counts.forEach((/** @type {number} */ n, /** @type {number} */ at) => { row.counts[at] += n; });
    rows.set(spread.name, row);
  };
  for (const spread of snapshot.hops) add(spread, false, snapshot.hop_bounds_us);
  for (const spread of snapshot.delivery) add(spread, true, snapshot.delivery_bounds_us);
  return rows;
}

/** @param {any[]} past */
export function showHops(past) {
  shown = past;
  const now = past[past.length - 1];
  const all = rows(now, className), before = rows(past[0], className);
  const minute = [...all.values()].map((row) => ({ ...row, counts: row.counts.map((n, at) => n - (before.get(row.name)?.counts[at] ?? 0)) }));
  const isQuiet = !minute.some((row) => row.counts.some((n) => n > 0));
  const wanted = (wholeTime || isQuiet ? [...all.values()] : minute).filter((row) => row.counts.some((n) => n > 0));
  const measured = wanted.filter((row) => row.name === "last_write").reduce((sum, row) => sum + row.counts.reduce((one, n) => one + n, 0), 0);
  say(byId("hops-note"), wanted.length === 0 ? "no event was delivered yet"
    : `${isQuiet && !wholeTime ? "nothing in the last minute: since the start" : wholeTime ? "since the start" : "in the last minute"}${measured > 0 ? `, ${count(measured)} sampled events` : ""}`);
  choices(now, wholeTime || isQuiet);
  const parent = byId("hops");
  if (!parent.firstElementChild) parent.append(el("div.hop.head", {}, el("span"), axis(), el("span", { textContent: "half" }), el("span", { textContent: "99 %" })), el("div.all-hops"));
  list(/** @type {Element} */ (parent.lastElementChild), wanted, (row) => row.name, (row) => {
    const strip = new Strip(), half = el("span.number"), most = el("span.number"), name = el("span.hop-name", { textContent: row.whole ? "the whole way" : HOPS[row.name] ?? row.name });
    const element = el("div.hop", {}, name, strip.element, half, most);
    element.classList.toggle("whole", row.whole);
    return {
      element,
      show(one) {
        const p50 = quantile(one.counts, one.bounds, 0.5), p99 = quantile(one.counts, one.bounds, 0.99);
        strip.show(one.counts, one.bounds, p50, p99, one.error);
        const error = one.error === null ? "" : ` ±${time(one.error)}${one.error >= (p50 ?? 0) ? " ?" : ""}`;
        say(half, time(p50) + error);
        say(most, time(p99));
        element.title = `${one.counts.reduce((sum, n) => sum + n, 0).toLocaleString("en")} measured`;
      },
    };
  });
}

/** @param {any} now @param {boolean} isWhole */
function choices(now, isWhole) {
  const times = [{ name: "Last minute", on: !isWhole, choose() { wholeTime = false; } }, { name: "Since the start", on: isWhole, choose() { wholeTime = true; } }];
  const classes = ["all", ...new Set([...now.hops, ...now.delivery].map((/** @type {any} */ spread) => spread.class))];
  show(byId("choose-time"), times);
  show(byId("choose-class"), classes.map((name) => ({ name, on: name === className, choose() { className = name; } })));
}

/** @param {Element} parent @param {{name: string, on: boolean, choose: () => void}[]} all */
function show(parent, all) {
  list(parent, all, (choice) => choice.name, (choice) => {
    const element = el("button", { type: "button", textContent: choice.name });
    element.addEventListener("click", () => { choice.choose(); showHops(shown); });
    return { element, show(one) { element.setAttribute("aria-pressed", String(one.on)); } };
  });
}
