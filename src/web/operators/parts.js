// What needs attention, the node in figures, the cluster, and the shards.

import { Spark, quantile } from "./charts.js";
import { NAMES, age, bytes, count, el, list, say, several, short, time } from "./words.js";

/** From a shard's turn that is longer on, in µs, viewers may notice. */
const LONG_TURN_US = 100_000;
const SILENT_MS = 2_500;

const sum = (/** @type {any[]} */ items, /** @type {(item: any) => number} */ of) => items.reduce((all, item) => all + of(item), 0);
const perSecond = (/** @type {any[]} */ figures) => sum(figures, (figure) => figure.per_second);

/** How much a figure of a snapshot grew since the oldest of the last minute. @param {any[]} past @param {string} group @param {any} figure */
export function grown(past, group, figure) {
  const before = past[0][group]?.find((/** @type {any} */ one) => one.name === figure.name);
  return past.length > 1 ? figure.total - (before?.total ?? 0) : 0;
}

/** Buckets of `delivery` over all classes, of the last minute, or since the start where there is nothing in it. @param {any[]} past */
function delivered(past) {
  const all = (/** @type {any} */ snapshot) => {
    const counts = new Array(snapshot.delivery_bounds_us.length + 1).fill(0);
    for (const spread of snapshot.delivery) spread.counts.forEach((/** @type {number} */ n, /** @type {number} */ at) => { counts[at] += n; });
    return counts;
  };
  const now = all(past[past.length - 1]), before = all(past[0]);
  const minute = now.map((n, at) => n - before[at]);
  return minute.some((n) => n > 0) ? { counts: minute, when: "last minute" } : { counts: now, when: "since the start" };
}

/** @param {Element} parent @param {any[]} past */
export function showAttention(parent, past) {
  const now = past[past.length - 1];
  /** @type {{level: string, what: string, detail: string}[]} */
  const found = [];
  const add = (/** @type {string} */ level, /** @type {string} */ what, /** @type {string} */ detail) => found.push({ level, what, detail });
  for (const node of now.nodes) {
    if (node.standing === "well") continue;
    const name = node.id === now.node ? "This node" : `${node.roles.join(", ")} ${short(node.id)}`;
    add(node.standing === "draining" || node.standing === "unknown" ? "warn" : "bad", `${name} is ${WORDS[node.standing] ?? node.standing}`, node.why ?? "");
  }
  for (const dc of now.data_centers) if (dc.standing !== "well") add("bad", `Data center ${dc.name} is late`, dc.why ?? "");
  for (const shard of now.shards) {
    if (shard.silent_ms > SILENT_MS) add("bad", `Shard ${shard.shard} is kept busy`, `it has not turned to anything for ${age(shard.silent_ms / 1_000)}`);
    else if (shard.turn_max_us > LONG_TURN_US) add("warn", `Shard ${shard.shard} had a turn of ${time(shard.turn_max_us)}`, "in the last minute; what came meanwhile waited");
    if (shard.mailbox.now * 2 > shard.mailbox.max) add("bad", `Shard ${shard.shard}'s mailbox is filling`, `${count(shard.mailbox.now)} of ${count(shard.mailbox.max)}`);
  }
  for (const [what, figure, unit] of /** @type {[string, any, (n: number) => string][]} */ ([["Connections", now.connections, count], ["Memory", now.memory_bytes, bytes], ["What waits for slow clients", now.backlog_bytes, bytes]])) {
    if (figure.max > 0 && figure.now > 0.9 * figure.max) add("bad", `${what}: nearly all is taken`, `${unit(figure.now)} of ${unit(figure.max)}`);
  }
  const lagging = sum(now.shards, (shard) => shard.lagging);
  if (lagging > 0) add("warn", `${several(lagging, "viewer does", "viewers do")} not keep up`, `${bytes(now.backlog_bytes.now)} wait for them`);
  for (const [group, what, level] of [["refused", "refused", "warn"], ["dropped", "events dropped", "bad"]]) {
    for (const figure of now[group]) {
      const more = grown(past, group, figure);
      if (more > 0) add(level, `${count(more)} ${what}: ${figure.name}`, "in the last minute");
    }
  }
  for (const figure of now.troubles) {
    const more = grown(past, "troubles", figure);
    if (more > 0 && !["merged", "rejected_requests", "timeouts"].includes(figure.name)) add("warn", `${count(more)} ${NAMES[figure.name] ?? figure.name}`, "in the last minute");
  }
  if (found.length === 0) add("good", "All is well", `${several(now.nodes.length, "node")}, ${several(now.shards.length, "shard")} here; nothing refused or dropped in the last minute`);
  found.sort((one, other) => "bad warn good".indexOf(one.level) - "bad warn good".indexOf(other.level));
  list(parent, found.slice(0, 12), (item) => item.level + item.what.replace(/[\d.,]+/g, "#"), () => {
    const what = el("b"), detail = el("span");
    const element = el("p.finding", {}, el("i"), what, detail);
    return { element, show(item) { element.dataset.level = item.level; say(what, item.what); say(detail, item.detail); } };
  });
}

const WORDS = /** @type {Record<string, string>} */ ({ well: "well", draining: "draining", unready: "not ready", late: "late", gone: "gone", unknown: "of another version" });

/** @param {Element} parent @param {any[]} past */
export function showTiles(parent, past) {
  const now = past[past.length - 1], others = now.nodes.filter((/** @type {any} */ node) => node.standing !== "gone");
  const latency = delivered(past);
  const p50 = quantile(latency.counts, now.delivery_bounds_us, 0.5), p99 = quantile(latency.counts, now.delivery_bounds_us, 0.99);
  const everywhere = (/** @type {(node: any) => number} */ of) => others.length > 1 ? `${count(sum(others, of))} in ${now.data_center}` : "";
  const of = (/** @type {any} */ bounded, /** @type {(n: number) => string} */ unit) => bounded.max > 0 && bounded.max < 2 ** 53 ? `of ${unit(bounded.max)}` : "";
  const tiles = [
    { name: "Viewers", value: count(now.connections.now), note: everywhere((node) => node.glance?.connections.now ?? 0) || of(now.connections, count), line: past.map((one) => one.connections.now) },
    { name: "Deliveries/s", value: count(perSecond(now.deliveries)), note: everywhere((node) => node.deliveries_per_second) || `${bytes(now.written_bytes.per_second)}/s`, line: past.map((one) => perSecond(one.deliveries)) },
    { name: "Events/s", value: count(perSecond(now.events)), note: everywhere((node) => node.events_per_second) || "taken from publishers", line: past.map((one) => perSecond(one.events)) },
    { name: "Latency, 99 %", value: time(p99), note: p50 === undefined ? "nothing delivered yet" : `half in ${time(p50)}; ${latency.when}`, line: undefined },
    { name: "Processors", value: now.processors.toFixed(2), note: `busy, of ${now.shards.length} for shards`, line: past.map((one) => one.processors) },
    { name: "Memory", value: bytes(now.memory_bytes.now), note: of(now.memory_bytes, bytes), line: past.map((one) => one.memory_bytes.now) },
    { name: "Waiting for clients", value: bytes(now.backlog_bytes.now), note: of(now.backlog_bytes, bytes), line: past.map((one) => one.backlog_bytes.now) },
  ];
  list(parent, tiles, (tile) => tile.name, (tile) => {
    const value = el("strong"), note = el("small"), spark = tile.line ? new Spark() : undefined;
    const element = el("div.tile", {}, el("span", { textContent: tile.name }), value, note, spark?.element ?? null);
    return { element, show(one) { say(value, one.value); say(note, one.note); spark?.show(one.line ?? []); } };
  });
}

const COLUMNS = [["backend", "Backends"], ["dispatcher", "Dispatchers"], ["frontend", "Frontends"]];

/** @param {Element} parent @param {Element} note @param {any} now */
export function showMap(parent, note, now) {
  const living = now.nodes.filter((/** @type {any} */ node) => node.standing !== "gone").length;
  say(note, `${several(living, "node")} in ${now.data_center}${now.data_centers.length > 0 ? `, ${several(now.data_centers.length, "other data center")}` : ""}`);
  const groups = [
    { key: "all", title: "", nodes: now.nodes.filter((/** @type {any} */ node) => node.roles.length > 1) },
    ...COLUMNS.map(([role, title]) => ({ key: role, title, nodes: now.nodes.filter((/** @type {any} */ node) => node.roles.length === 1 && node.roles[0] === role) })),
    { key: "peers", title: "Other data centers", nodes: now.data_centers },
  ].filter((group) => group.nodes.length > 0);
  list(parent, groups, (group) => group.key, (group) => {
    const nodes = el("div.nodes");
    const element = el("div.group", {}, group.title ? el("h3", { textContent: group.title }) : null, nodes);
    element.classList.add(group.key);
    return { element, show(one) { list(nodes, one.nodes, (node) => node.id ?? node.name, () => group.key === "peers" ? peer() : card(now.node)); } };
  });
}

/** @param {[string, string]} row */
function fact([key]) {
  const value = el("dd");
  return { element: el("div", {}, el("dt", { textContent: key }), value), show(/** @type {[string, string]} */ [, text]) { say(value, text); } };
}

/** @param {string} own the node whose page this is */
function card(own) {
  const name = el("a.name"), stands = el("span.stands"), why = el("p.why"), facts = el("dl");
  const element = el("article.node", {}, el("header", {}, el("i"), name, stands), why, facts);
  return {
    element,
    /** @param {any} node */
    show(node) {
      const is = node.glance ?? {}, isOwn = node.id === own;
      element.dataset.standing = node.standing;
      element.classList.toggle("own", isOwn);
      say(name, short(node.id));
      name.title = `${node.id} at ${node.url}`;
      if (isOwn || !/^http:\/\//.test(node.url)) name.removeAttribute("href");
      else if (name.getAttribute("href") !== node.url) name.setAttribute("href", node.url);
      say(stands, node.standing === "well" ? (isOwn ? "this node" : "") : WORDS[node.standing] ?? node.standing);
      say(why, node.why ?? (node.glance ? "" : "it has not said yet how it is"));
      /** @type {[string, string][]} */
      const rows = [];
      if (node.standing === "gone") rows.push(["since", age(node.heard_ms / 1_000)]);
      else if (node.glance) {
        if (node.roles.includes("frontend")) rows.push(["viewers", count(is.connections.now)], ["deliveries/s", count(node.deliveries_per_second)]);
        if (node.roles.includes("dispatcher")) rows.push(["events/s", count(node.events_per_second)]);
        if (is.lagging > 0) rows.push(["lagging", count(is.lagging)]);
        if (is.dropped > 0) rows.push(["dropped", count(is.dropped)]);
        rows.push(["memory", bytes(is.memory_bytes.now)], ["longest turn", time(is.turn_max_us)], ["up", age(is.uptime_seconds)]);
        if (!isOwn) rows.push(["heard", node.heard_ms < 1_500 ? "now" : `${age(node.heard_ms / 1_000)} ago`]);
      }
      list(facts, rows, ([key]) => key, fact);
    },
  };
}

function peer() {
  const name = el("span.name"), stands = el("span.stands"), why = el("p.why"), facts = el("dl");
  const element = el("article.node", {}, el("header", {}, el("i"), name, stands), why, facts);
  return {
    element,
    /** @param {any} dc */
    show(dc) {
      element.dataset.standing = dc.standing;
      say(name, dc.name);
      say(stands, dc.standing === "well" ? "" : WORDS[dc.standing] ?? dc.standing);
      say(why, dc.why ?? "");
      const rows = /** @type {[string, string][]} */ ([["reach it", `${dc.connected} of ${count(dc.dispatchers)}`], ["oldest waiting", time(dc.lag_ms * 1_000)], ["its clock", `${dc.clock_ahead_ms >= 0 ? "+" : "−"}${time(Math.abs(dc.clock_ahead_ms) * 1_000)}`]]);
      list(facts, rows, ([key]) => key, fact);
    },
  };
}

/** @param {Element} parent @param {any} now */
export function showShards(parent, now) {
  const most = (/** @type {(shard: any) => number} */ of) => Math.max(1e-9, ...now.shards.map(of));
  const tops = [most((shard) => shard.streams), most((shard) => shard.deliveries_per_second), most((shard) => shard.turn_max_us), 0];
  list(parent, now.shards, (shard) => String(shard.shard), () => {
    const cells = Array.from({ length: 4 }, () => ({ bar: el("i"), text: el("span") }));
    const lagging = el("span"), waiting = el("small.beside"), name = el("th", { scope: "row" });
    const element = el("tr", {}, name, ...cells.map(({ bar, text }) => el("td.bar-cell", {}, bar, text)), el("td", {}, lagging, waiting));
    return {
      element,
      /** @param {any} shard */
      show(shard) {
        const silent = shard.silent_ms > SILENT_MS;
        element.classList.toggle("late", silent);
        say(name, String(shard.shard));
        const values = [shard.streams, shard.deliveries_per_second, silent ? shard.silent_ms * 1_000 : shard.turn_max_us, shard.mailbox.now];
        const texts = [count(values[0]), count(values[1]), silent ? `${age(shard.silent_ms / 1_000)}, and on` : time(values[2]), count(values[3])];
        tops[3] = shard.mailbox.max;
        cells.forEach(({ bar, text }, at) => {
          bar.style.width = `${Math.min(100, 100 * values[at] / Math.max(tops[at], 1e-9)).toFixed(1)}%`;
          say(text, texts[at]);
        });
        cells[2].bar.classList.toggle("hot", values[2] > LONG_TURN_US);
        say(lagging, count(shard.lagging));
        say(waiting, shard.lagging > 0 ? bytes(shard.backlog_bytes) : "");
      },
    };
  });
}
