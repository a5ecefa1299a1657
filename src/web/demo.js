// The demo page: joins the stream, the totals, the comments, the chat and the stage.
import { Reader } from "./api.js";
import { Chat } from "./chat.js";
import { ServerClock } from "./clock.js";
import { Comments } from "./comments.js";
import { $, avatar, encode, memory, number, readQuery } from "./context.js";
import { Crowd } from "./crowd.js";
import { Dots } from "./dots.js";
import { connect } from "./fanfare.js";
import { Hearts } from "./hearts.js";
import { REACTIONS, Tally } from "./likes.js";
import { Moderation } from "./moderation.js";
import { Reactions } from "./reactions.js";
import { Stage } from "./stage.js";
import { Newest } from "./talk.js";

const SAMPLES_MAX = 200;
const ANNOUNCE_EVERY_MS = 10_000;
const CLOCK_EVERY_MS = 300_000;
const CLOCK_RETRY_MS = 5_000;

// ---- who is watching what

const { video, conversation, chatAsked, member, named, crowd } = readQuery(location.search, memory.get("fanfare.member"));
if (!named) memory.set("fanfare.member", member);

const videoUrl = `/v1/videos/${encode(video)}`, likesUrl = `${videoUrl}/likes`;
const live = `live:${encode(video)}`, chatTopic = `chat:${encode(conversation)}`;

// ---- what people are told

let noticeTimer = 0;

/** Shows a message; `ms` 0 leaves it until it is dismissed or solved. @param {string} text */
function notice(text, ms = 0) {
  clearTimeout(noticeTimer);
  $("notice").hidden = text === "";
  $("notice-text").textContent = text;
  if (ms > 0) noticeTimer = setTimeout(() => notice(""), ms);
}
$("notice-close").addEventListener("click", () => notice(""));

/** @param {string} text */
function announce(text) { $("announce").textContent = text; }

const fresh = { reactions: 0, comments: 0 };
setInterval(() => {
  // One sentence now and then: whoever listens to the page is not to hear every like.
  const { reactions, comments } = fresh, parts = [];
  if (reactions > 0) parts.push(`${number(reactions)} new ${reactions === 1 ? "reaction" : "reactions"}, ${number(tally.sum)} in all`);
  if (comments > 0) parts.push(`${number(comments)} new ${comments === 1 ? "comment" : "comments"}`);
  fresh.reactions = fresh.comments = 0;
  if (parts.length > 0) announce(`${parts.join("; ")}.`);
}, ANNOUNCE_EVERY_MS);

// ---- the parts

const clock = new ServerClock();
let clockReady = clock.sync();
const now = () => clock.now();
const stream = connect(undefined, { member });
for (const topic of [live, chatTopic]) stream.subscribe(topic);
const stage = new Stage($("stage"));
const hearts = new Hearts($("hearts"));
const tally = new Tally();
const dots = new Dots(stream, now);
const reactions = new Reactions({
  url: likesUrl, video, member, tally, notice,
  // Without a stream nobody tells this page the new total.
  stored: () => { if (stream.state !== "open") counts.read(); },
});
const moderation = new Moderation({ url: videoUrl, notice });
const comments = new Comments({
  url: `${videoUrl}/comments`, member, notice, dots,
  timeOut: (other) => moderation.timeOut(other), ask: (all) => stream.all(...all ? ["comment"] : []),
});
const chat = new Chat({ url: `/v1/conversations/${encode(conversation)}`, member, conversation, notice, dots, now });
const viewers = new Newest();

const counts = new Reader(() => likesUrl, ({ reactions: totals }) => {
  tally.snapshot(totals ?? {});
  reactions.showCounts();
}, now);

// ---- latency

/** The newest events, with this page's times of them: they may come before the server's clock is known. @type {{at: number, openedAt: number, receivedAt: number, latency: number | null}[]} */
const samples = [];
let received = 0, openedAt = Infinity;

/** @param {number} at */
function measure(at) {
  if (document.hidden) return;
  samples.push({ at, openedAt, receivedAt: Date.now(), latency: stream.latency });
  if (samples.length > SAMPLES_MAX) samples.shift();
}

/** In ms, in the order of receipt; none before the server's clock is known. */
function latencies() {
  if (!clock.known) return [];
  // What is replayed, or was the newest before this page came, is old for another reason.
  return samples.filter(({ at, openedAt }) => at >= clock.of(openedAt))
    // Below the clocks' own error a latency can come out negative; it is then within a millisecond or so of none.
    .map(({ at, receivedAt, latency }) => latency ?? Math.max(0, clock.of(receivedAt) - at));
}

function showFigures() {
  $("received").textContent = number(received);
  const known = latencies();
  if (known.length === 0) return;
  const sorted = [...known].sort((a, b) => a - b);
  const rank = (/** @type {number} */ p) => sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)];
  const ms = (/** @type {number} */ value) => value < 1 ? "< 1 ms" : `${number(Math.round(value))} ms`;
  $("latency").hidden = false;
  $("latency-value").textContent = ms(known[known.length - 1]);
  $("median").textContent = ms(rank(0.5));
  $("p90").textContent = ms(rank(0.9));
}
let figures = 0;
const figuresSoon = () => { figures ||= setTimeout(() => { figures = 0; showFigures(); }, 150); };

// ---- events

/** @param {import("../../packages/js/types.d.ts").Event} event */
function onLike({ type, key, count, counts, members, data }) {
  const reaction = data.reaction ?? key ?? "like", many = Math.max(1, count ?? 1);
  const known = (/** @type {string} */ name) => /** @type {import("./context.js").Reaction} */ (/** @type {string[]} */ (REACTIONS).includes(name) ? name : "like");
  fresh.reactions += many;
  // The totals come by themselves, as `likes`.
  for (const [name, more] of Object.entries(counts ?? { [reaction]: many })) {
    hearts.rise(known(name), more, name === reaction && (members ?? [data.member]).includes(member));
  }
  stage.cheer(many);
  if (type === "like") reactions.feed(known(reaction), (members ?? [data.member ?? "someone"]).map(String), many);
}

/**
 * @param {number} value
 * @param {number} [members] as far as streams name theirs
 */
function showViewers(value, members) {
  $("viewers").hidden = false;
  $("viewers-value").textContent = number(value);
  $("viewers").dataset.value = String(value);
  $("viewers-label").textContent = value === 1 ? "viewer" : "viewers";
  $("viewers").title = members === undefined ? "" : `${number(members)} ${members === 1 ? "member" : "members"}`;
}

stream.on("event", (event) => {
  if (typeof event.data !== "object" || event.data === null) return;
  const { topic, type, at, key, data } = event;
  received += Math.max(1, event.count ?? 1);
  // What is told on subscribing is as old as it is.
  if (!["viewers", "presence", "likes", "rules"].includes(type)) measure(at);
  figuresSoon();
  if (topic === live) {
    if (type === "like" || type === "tap") onLike(event);
    else if (type === "likes" && typeof data.reactions === "object" && data.reactions !== null) {
      tally.told(data.reactions);
      reactions.showCounts();
    } else if (type === "comment") {
      if (comments.added(event) && data.member !== member) fresh.comments++;
    } else if (type === "deleted") comments.removed(String(data.id));
    else if (type === "rules") moderation.told(data);
    else if (type === "viewers" && Number.isFinite(data.viewers) && viewers.set(data.viewers, at)) showViewers(data.viewers, data.members);
  } else if (topic === chatTopic) {
    if (type === "message") chat.added(event);
    else if (type === "deleted") chat.removed(String(data.id));
    else if (type === "typing") chat.typing(String(data.member ?? key));
    else if (type === "receipt") chat.read(String(data.member ?? key), String(data.message), at);
  }
});

// Whoever presses the stage gives hearts, as many as fingers can.
$("hearts").parentElement?.addEventListener("pointerdown", () => stream.tap(video, reactions.last));

// ---- the state of the stream

/** @param {string} next @param {string} text */
function setState(next, text) {
  if (next !== $("state").dataset.state) announce(next === "live" ? "Live." : `${text}.`);
  $("state").dataset.state = next;
  $("state-text").textContent = text;
}

let busy = false;
stream.on("bye", ({ reason }) => { busy = reason === "busy"; });
stream.on("state", ({ state, status, detail }) => {
  if (state !== "open") tally.away();
  if (state === "open") setState("live", "Live");
  else if (state === "closed" && comments.all) {
    notice(`Only some comments are for you: ${detail}`);
    comments.want(false);
  } else if (state === "closed") {
    setState("offline", "Refused");
    notice(`This page may not watch: ${detail}`);
  } else if (!navigator.onLine) setState("offline", "Offline");
  else setState("reconnecting", busy || status === 503 || status === 429 ? "Server busy, retrying" : "Reconnecting");
});
stream.on("connected", async () => {
  busy = false;
  // What was missed while away shows in the lists and totals, and events count from here on.
  openedAt = Date.now();
  await clockReady;
  loadAll();
});
stream.on("gap", () => loadAll(true));
addEventListener("offline", () => setState("offline", "Offline"));
addEventListener("online", () => { if (stream.state !== "open") setState("reconnecting", "Reconnecting"); else setState("live", "Live"); });

/** @param {boolean} lost whether events may be missing */
function loadAll(lost = false) {
  counts.read();
  comments.load(lost);
  chat.load();
  dots.reload();
}

// ---- the rest of the page

$("video").textContent = video;
$("member").textContent = member;
/** @type {HTMLInputElement} */ ($("comment-text")).placeholder = `Comment as ${member}`;
const me = avatar(member);
me.id = "me-avatar";
$("me-avatar").replaceWith(me);
dots.follow([member]);
const second = new URLSearchParams({ video, member: `guest-${Math.random().toString(36).slice(2, 6)}`, chat: conversation });
/** @type {HTMLAnchorElement} */ ($("second")).href = `/?${second}`;
const quote = (/** @type {string} */ text) => `'${text.replaceAll("'", `'\\''`)}'`;
$("snippet").textContent = `curl -d ${quote(JSON.stringify({ member: "shell", reaction: "love" }))} \\\n  ${quote(location.origin + likesUrl)}`;
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("snippet").textContent ?? "");
    $("copy").textContent = "Copied";
  } catch {
    // The clipboard needs a secure origin; the text is selected for the person to copy.
    getSelection()?.selectAllChildren($("snippet"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2_000);
});
if (video !== "42") document.title = `Fanfare live: ${video}`;

(async () => {
  for (;;) {
    await clockReady;
    figuresSoon();
    await new Promise((resolve) => setTimeout(resolve, clock.known ? CLOCK_EVERY_MS : CLOCK_RETRY_MS));
    clockReady = clock.sync();
  }
})();
// Totals and comments show even if the stream cannot be had.
loadAll();
if (chatAsked && matchMedia("(min-width: 961px)").matches) chat.open();
moderation.reader.read();
if (crowd > 0) new Crowd(crowd, videoUrl);
