// The page of a node for those who look after it: a snapshot a second, and what it shows of the minute before.

import { Feed } from "./feed.js";
import { showHops } from "./latency.js";
import { showClients, showLosses, showSettings, showTopics, showWarnings } from "./lists.js";
import { showAttention, showMap, showShards, showTiles } from "./parts.js";
import { say, short } from "./words.js";

const byId = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const MINUTE_MS = 60_000;

/** Snapshots of the last minute, the oldest first. @type {any[]} */
let past = [];
/** @type {any} */
let settings;

/** @param {any} snapshot */
function show(snapshot) {
  const last = past.at(-1);
  // A node that began anew counts from 0.
  if (last && (last.node !== snapshot.node || snapshot.at - last.at > MINUTE_MS || snapshot.at < last.at)) past = [];
  past.push(snapshot);
  while (past[0].at < snapshot.at - MINUTE_MS) past.shift();
  draw();
}

function draw() {
  const snapshot = past.at(-1);
  if (!snapshot || document.hidden) return;
  const own = snapshot.nodes[0] ?? {};
  document.title = `${short(snapshot.node)} · ${snapshot.data_center} · Fanfare`;
  say(byId("who"), `${(own.roles ?? []).join(", ")} · ${short(snapshot.node)} · ${snapshot.data_center} · ${own.glance?.version ?? ""}`);
  showAttention(byId("attention"), past);
  showTiles(byId("tiles"), past);
  showMap(byId("map"), byId("map-note"), snapshot);
  showShards(byId("shards"), snapshot);
  showHops(past);
  showTopics(snapshot);
  showClients(snapshot);
  showLosses(byId("losses"), past);
}

const feed = new Feed({
  onState(state, why) {
    const pill = byId("state");
    pill.dataset.state = state;
    say(pill.lastElementChild, state === "locked" ? "locked" : why);
    byId("ask").hidden = state !== "locked";
    byId("forget").hidden = !feed.hasSecret || state === "locked";
    if (state === "locked") {
      past = [];
      byId("main").hidden = true;
      byId("wrong").hidden = why === "";
      say(byId("wrong"), why);
      byId("secret").focus();
    }
    // What was shown last stays, but not as if it were so now.
    document.body.classList.toggle("stale", state === "lost");
  },
  onSnapshot(snapshot) {
    byId("main").hidden = false;
    show(snapshot);
  },
  onSettings(answer) {
    settings = answer;
    showSettings(settings);
  },
  onHappenings: showWarnings,
});

byId("ask").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  feed.use(byId("secret").value.trim());
  byId("secret").value = "";
});
byId("forget").addEventListener("click", () => feed.use(""));
byId("find-setting").addEventListener("input", () => settings && showSettings(settings));
byId("only-set").addEventListener("change", () => settings && showSettings(settings));
document.addEventListener("visibilitychange", draw);

const theme = localStorage.getItem("fanfare.theme");
if (theme) document.documentElement.dataset.theme = theme;
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("fanfare.theme", root.dataset.theme);
});

feed.start();
