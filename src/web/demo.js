// The demo page: joins the stream, the totals, the buttons and the stage.
import { Hearts, icon } from "./hearts.js";
import { Press, REACTIONS, Tally } from "./likes.js";
import { Stage } from "./stage.js";

const NAMES = {
  like: ["Like", "likes this"], celebrate: ["Celebrate", "celebrates"], support: ["Support", "shows support"],
  love: ["Love", "loves this"], insightful: ["Insightful", "finds this insightful"], funny: ["Funny", "finds this funny"],
};
const GUESTS = ["ana", "bo", "chen", "dara", "emil", "fatou", "gil", "hana", "ines", "jun", "kofi", "lena", "mo", "nia", "otto", "pia"];
const SAMPLES_MAX = 200;
const FEED_MAX = 4;
const FEED_MS = 5_000;
const ANNOUNCE_EVERY_MS = 10_000;
const CLOCK_EVERY_MS = 300_000;

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const number = new Intl.NumberFormat();

// ---- who is watching what

// Percent-encoding as topics need it: encodeURIComponent leaves some characters that a topic may not have.
const encode = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

// sessionStorage can be switched off; the page then lives without a memory of reloads.
const memory = {
  get(key) { try { return sessionStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(key, value); } catch { /* nothing kept */ } },
};

const query = new URLSearchParams(location.search);
const asked = (query.get("video") ?? "").trim();
// "." and ".." would be resolved away in a request's path.
const video = asked === "" || asked === "." || asked === ".." || encode(asked).length > 190 ? "42" : asked;
const member = (query.get("member") ?? "").trim().slice(0, 64) || memory.get("fanfare.member")
  || `${GUESTS[Math.floor(Math.random() * GUESTS.length)]}-${Math.random().toString(36).slice(2, 6)}`;
if (!query.get("member")) memory.set("fanfare.member", member);

const likesUrl = `/v1/videos/${encode(video)}/likes`;
const topic = `live:${encode(video)}`;
const pressedKey = `fanfare.pressed.${video}.${member}`;

const stage = new Stage($("stage"));
const hearts = new Hearts($("hearts"));
const tally = new Tally();

// ---- the server's clock: the sample with the shortest way there and back is the most exact

const clock = { offset: 0, known: false, now() { return Date.now() + this.offset; } };

async function syncClock() {
  let best = Infinity;
  for (let i = 0; i < 4; i++) {
    try {
      const sent = performance.now();
      const { now } = await (await fetch("/v1/time", { cache: "no-store", signal: AbortSignal.timeout(5_000) })).json();
      const round = performance.now() - sent;
      if (Number.isFinite(now) && round < best) {
        best = round;
        clock.offset = now + round / 2 - Date.now();
        clock.known = true;
      }
    } catch {
      // The state pill says that the server is away, and `connected` asks again.
      return;
    }
  }
}
let clockReady = syncClock();

// ---- counts

let painted = false;

function showCounts() {
  if (painted) return;
  // Thousands of likes a second are one change of text a frame.
  painted = true;
  requestAnimationFrame(() => {
    painted = false;
    const sum = tally.sum, count = $("count");
    if (count.dataset.value !== String(sum) && count.textContent !== "–") {
      count.classList.remove("bump");
      void count.offsetWidth;
      count.classList.add("bump");
    }
    count.dataset.value = String(sum);
    count.textContent = number.format(sum);
    $("count-label").textContent = sum === 1 ? "reaction" : "reactions";
    for (const press of presses.values()) press.show();
  });
}

let loading = 0;

/** Reads the totals, again until it works; a later call takes the place of one that is still trying. */
async function loadCounts() {
  const turn = ++loading;
  // Totals are compared with events by the server's time.
  await clockReady;
  for (let wait = 500; turn === loading; wait = Math.min(wait * 2, 15_000)) {
    const sentAt = clock.now();
    try {
      const response = await fetch(likesUrl, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      if (response.ok) {
        const { reactions } = await response.json();
        tally.snapshot(reactions ?? {}, sentAt);
        showCounts();
        return;
      }
    } catch { /* tried again below */ }
    await sleep(wait * (0.75 + Math.random() / 2));
  }
}

// ---- what people are told

let noticeTimer = 0;

/** Shows a message; `ms` 0 leaves it until it is dismissed or solved. */
function notice(text, ms = 0) {
  clearTimeout(noticeTimer);
  $("notice").hidden = text === "";
  $("notice-text").textContent = text;
  if (ms > 0) noticeTimer = setTimeout(() => notice(""), ms);
}

function announce(text) { $("announce").textContent = text; }

let fresh = 0;
setInterval(() => {
  if (fresh === 0) return;
  announce(`${number.format(fresh)} new ${fresh === 1 ? "reaction" : "reactions"}, ${number.format(tally.sum)} in all.`);
  fresh = 0;
}, ANNOUNCE_EVERY_MS);

// ---- the buttons

const presses = new Map();
const kept = new Set((memory.get(pressedKey) ?? "").split(","));

for (const reaction of REACTIONS) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "reaction";
  button.id = reaction;
  button.dataset.reaction = reaction;
  const text = document.createElement("span"), name = document.createElement("span"), total = document.createElement("span");
  text.className = "text";
  name.className = "name";
  total.className = "number";
  text.append(name, total);
  // The main button's heart takes the button's colour.
  button.append(icon(reaction === "like" ? "heart" : reaction), text);
  const press = new Press({ url: likesUrl, member, reaction, stored: kept.has(reaction), changed });
  press.show = () => {
    const value = tally.get(reaction), label = NAMES[reaction][0];
    name.textContent = reaction === "like" && press.wanted ? "Liked" : label;
    total.textContent = number.format(value);
    total.dataset.value = String(value);
    button.setAttribute("aria-pressed", String(press.wanted));
    button.setAttribute("aria-label", `${label}, ${number.format(value)}`);
    button.toggleAttribute("data-waiting", press.waiting);
  };
  button.addEventListener("click", () => press.toggle());
  presses.set(reaction, press);
  press.show();
  $("reactions").append(button);
}

function changed(press, outcome) {
  press.show();
  const what = NAMES[press.reaction][0].toLowerCase();
  if (outcome?.kind === "stored") {
    memory.set(pressedKey, [...presses.values()].filter((one) => one.stored).map((one) => one.reaction).join(","));
    if (![...presses.values()].some((one) => one.waiting)) notice("");
    // Without a stream nobody tells this page the new total.
    if (state !== "live") loadCounts();
  } else if (outcome?.kind === "retry") {
    const seconds = Math.max(1, Math.round(outcome.retryMs / 1_000));
    notice(`Your “${what}” is not saved yet: ${outcome.detail} Trying again in ${seconds} s.`);
  } else if (outcome?.kind === "failed") {
    notice(`Your “${what}” could not be saved: ${outcome.detail}`);
  }
}

$("notice-close").addEventListener("click", () => notice(""));

// ---- events

const samples = [];
let received = 0;

function measure(at) {
  if (!clock.known || !Number.isFinite(at)) return;
  // Below the clocks' own error a latency can come out negative; it is then within a millisecond or so of none.
  samples.push(Math.max(0, clock.now() - at));
  if (samples.length > SAMPLES_MAX) samples.shift();
}

function showFigures() {
  $("received").textContent = number.format(received);
  if (samples.length === 0) return;
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = (p) => sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)];
  const ms = (value) => value < 1 ? "< 1 ms" : `${number.format(Math.round(value))} ms`;
  $("latency").hidden = false;
  $("latency-value").textContent = ms(samples[samples.length - 1]);
  $("median").textContent = ms(rank(0.5));
  $("p90").textContent = ms(rank(0.9));
}
let figures = 0;
const figuresSoon = () => { figures ||= setTimeout(() => { figures = 0; showFigures(); }, 150); };

function feed(reaction, who, count) {
  if (document.hidden) return;
  const item = document.createElement("li"), avatar = document.createElement("span"), name = document.createElement("span");
  avatar.className = "avatar";
  avatar.textContent = [...who][0] ?? "?";
  avatar.style.setProperty("--hue", String([...who].reduce((hue, c) => (hue * 31 + c.codePointAt(0)) % 360, 7)));
  name.className = "who";
  name.textContent = who === member ? `${who} (you)` : who;
  const said = document.createElement("span");
  said.className = "said";
  said.textContent = count > 1 ? `and ${number.format(count - 1)} more` : NAMES[reaction]?.[1] ?? "reacts";
  item.append(avatar, name, said, icon(reaction));
  $("feed").append(item);
  while ($("feed").children.length > FEED_MAX) $("feed").firstElementChild.remove();
  setTimeout(() => item.classList.add("leaving"), FEED_MS);
  setTimeout(() => item.remove(), FEED_MS + 600);
}

let fedAt = 0, unfed = 0;

function onLike({ key, at, count, data }) {
  const reaction = data.reaction ?? key ?? "like", many = Math.max(1, count ?? 1);
  const known = REACTIONS.includes(reaction) ? reaction : "like";
  measure(at);
  received += many;
  fresh += many;
  if (Number.isFinite(data.likes)) tally.like(reaction, data.likes, at);
  showCounts();
  stage.cheer(many);
  hearts.rise(known, many, data.member === member);
  // At most one line in 250 ms can be read; those in between are counted into the next.
  unfed += many;
  if (performance.now() - fedAt > 250) {
    fedAt = performance.now();
    feed(known, String(data.member ?? "someone"), unfed);
    unfed = 0;
  }
}

function onMessage(message) {
  let event;
  try { event = JSON.parse(message.data); } catch { return; }
  if (event?.topic !== topic || typeof event.data !== "object" || event.data === null) return;
  if (event.type === "like") onLike(event);
  else if (event.type === "unlike" && Number.isFinite(event.data.likes)) {
    tally.unlike(event.data.reaction, event.data.likes, event.at);
    showCounts();
  }
  figuresSoon();
}

// ---- the stream

let state = "connecting", source = null, attempts = 0, retryTimer = 0;

function setState(next, text) {
  if (next !== state) announce(next === "live" ? "Live." : `${text}.`);
  state = next;
  $("state").dataset.state = next;
  $("state-text").textContent = text;
}

function connect() {
  clearTimeout(retryTimer);
  source?.close();
  const stream = source = new EventSource(`/v1/events?topic=${encodeURIComponent(topic)}&member=${encodeURIComponent(member)}`);
  stream.addEventListener("connected", () => {
    attempts = 0;
    setState("live", "Live");
    // What was missed while away shows in the totals, and these count from here on.
    if (!clock.known) clockReady = syncClock();
    loadCounts();
  });
  stream.addEventListener("bye", (message) => {
    let reason = "";
    try { reason = JSON.parse(message.data).reason; } catch { /* the reason is for the text only */ }
    setState("reconnecting", reason === "busy" ? "Server busy, retrying" : "Reconnecting");
  });
  stream.addEventListener("message", onMessage);
  stream.addEventListener("error", () => {
    if (stream !== source) return;
    if (!navigator.onLine) setState("offline", "Offline");
    else if ($("state-text").textContent !== "Server busy, retrying") setState("reconnecting", "Reconnecting");
    // The browser itself retries while CONNECTING; after a refusal it is CLOSED for good, so a new one is made here.
    if (stream.readyState === EventSource.CLOSED) {
      const wait = Math.min(30_000, 1_000 * 2 ** attempts++) * (0.5 + Math.random());
      retryTimer = setTimeout(connect, wait);
    }
  });
}

addEventListener("offline", () => setState("offline", "Offline"));
addEventListener("online", () => { setState("reconnecting", "Reconnecting"); connect(); });
// A page kept for the back button comes back with a dead stream.
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });

// ---- the rest of the page

$("video").textContent = video;
$("member").textContent = member;
$("second").href = `/?video=${encodeURIComponent(video)}&member=${encodeURIComponent(`guest-${Math.random().toString(36).slice(2, 6)}`)}`;
const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
$("snippet").textContent = `curl -d ${quote(JSON.stringify({ member: "shell", reaction: "love" }))} \\\n  ${quote(location.origin + likesUrl)}`;
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("snippet").textContent);
    $("copy").textContent = "Copied";
  } catch {
    // The clipboard needs a secure origin; the text is selected for the person to copy.
    getSelection().selectAllChildren($("snippet"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2_000);
});
if (video !== "42") document.title = `Fanfare live: ${video}`;

setInterval(syncClock, CLOCK_EVERY_MS);
connect();
// Totals show even if the stream cannot be had.
loadCounts();
