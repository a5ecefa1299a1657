// Repeats, order, latency and its samples: `node --test tests/js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { T, browser, json, problem, settle } from "./fakes.mjs";

const ids = (events) => events.map(({ id }) => id);

/** Cuts the stream and opens the next one. */
async function reopen(world) {
  await world.source.cut();
  await world.tick(30_000);
  await world.source.connected();
}

function comment(world, n, topic = "live:42", more = {}) {
  return world.source.event({ type: "comment", id: `c${n}`, topic, ...more }, `eu:${n}-0`);
}

test("each event goes once to the connection and to whoever subscribed to its type, until they are taken off", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  const seen = [], told = (who) => ({ id, count }) => seen.push(`${who} ${id} ${count}`);
  const off = stream.on("event", told("all"));
  const likes = stream.subscribe("live:42", { types: ["like"] }), everything = stream.subscribe("live:42");
  likes.on("event", told("likes"));
  everything.on("event", told("everything"));
  await world.source.event({ type: "like", id: "a", count: 3 });
  off();
  await comment(world, 1);
  everything.close();
  await world.source.event({ type: "like", id: "b", count: 1 });
  assert.deepEqual(seen, ["likes a 3", "everything a 3", "all a 3", "everything c1 undefined", "likes b 1"]);
  assert.deepEqual(world.requests, [], "the topic is on the stream still");
});

test("who subscribes to a topic that is there already is told its newest values, and not those of other types", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  for (const [type, key, id] of [["likes", undefined, "a"], ["likes", undefined, "b"], ["receipt", "ana", "c"], ["receipt", "bo", "d"], ["typing", "bo", "e"]]) {
    await world.source.event({ type, key, id });
  }
  const seen = [], subscription = stream.subscribe("live:42");
  subscription.on("event", ({ id }) => seen.push(id));
  await settle();
  assert.deepEqual([seen, subscription.state, world.requests], [["b", "c", "d"], "open", []]);
});

test("a part of a page that comes in the turn in which another one goes is told the newest values, too", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  await world.source.event({ type: "likes", id: "a" });
  world.remove("live:42");
  const seen = [], subscription = stream.subscribe("live:42");
  subscription.on("event", ({ id }) => seen.push(id));
  await settle();
  assert.deepEqual([seen, world.requests], [["a"], []]);
  subscription.close();
  await settle();
  assert.equal(world.posts("/topics").length, 1);
  stream.subscribe("live:42").on("event", ({ id }) => seen.push(id));
  await settle();
  assert.deepEqual([seen, world.posts("/topics").length], [["a"], 2], "the server tells what is newest then");
});

test("control events are handed over, and an event that has the name of one is not taken for it", async (t) => {
  const world = browser(t);
  const { stream, events } = await world.start();
  const seen = [];
  for (const name of ["connected", "gap", "token"]) stream.on(name, (data) => seen.push([name, data]));
  await world.source.connected({ heartbeat_ms: 20_000 });
  await world.source.block("gap", { topic: "live:42", after: null });
  await world.source.block("token", { expires_at: 7 });
  await world.source.event({ type: "gap", id: "forged" });
  assert.deepEqual(seen, [
    ["connected", { connection: "c1", node: "n1", heartbeat_ms: 20_000, pending: [] }],
    ["gap", { topic: "live:42", after: null }],
    ["token", { expires_at: 7 }],
  ]);
  assert.deepEqual(ids(events), ["forged"]);
});

test("what is replayed after a reconnect is dropped where it was seen, and the rest keeps its order", async (t) => {
  const world = browser(t);
  const { events } = await world.open();
  for (const n of [1, 2, 3]) await comment(world, n);
  await reopen(world);
  for (const n of [2, 3, 4, 5]) await comment(world, n);
  // The last of the replay comes once more, live.
  await comment(world, 5);
  assert.deepEqual(ids(events), ["c1", "c2", "c3", "c4", "c5"]);
});

test("the same id on another topic, or of another type, is another event", async (t) => {
  const world = browser(t);
  const { events } = await world.open({ topics: ["live:42", "chat:1"] });
  await comment(world, 1);
  await comment(world, 1, "chat:1");
  await world.source.event({ type: "typing", id: "c1" });
  await world.source.event({ type: "typing", id: "c1" });
  assert.equal(events.length, 4);
});

test("events of two topics may have one position, and repeats of both are dropped", async (t) => {
  const world = browser(t);
  const { events } = await world.open({ topics: ["live:42", "chat:1"] });
  await comment(world, 0);
  const both = async () => {
    for (const topic of ["live:42", "chat:1"]) await world.source.event({ type: "comment", id: `in-${topic}`, topic }, "eu:7-1");
  };
  await both();
  await reopen(world);
  await both();
  assert.deepEqual(ids(events), ["c0", "in-live:42", "in-chat:1"]);
});

test("likes are never dropped, whatever id they have", async (t) => {
  const world = browser(t);
  const { events } = await world.open();
  await comment(world, 1);
  for (let like = 0; like < 3; like++) await world.source.event({ type: "like", id: "same", count: 2 });
  await reopen(world);
  await comment(world, 1);
  await world.source.event({ type: "like", id: "same", count: 2 });
  assert.equal(events.reduce((sum, { count }) => sum + (count ?? 0), 0), 8);
  assert.equal(events.length, 5);
});

test("what has a count is never a repeat, not even with an id line of its own", async (t) => {
  const world = browser(t);
  const { events } = await world.open();
  for (const position of ["eu:1-0", "eu:2-0"]) await world.source.event({ type: "like", id: "same", count: 2 }, position);
  assert.equal(events.length, 2);
});

test("a topic that is removed and added again starts afresh", async (t) => {
  const world = browser(t);
  const { stream, events } = await world.open();
  await comment(world, 1);
  world.remove("live:42");
  world.add("live:42");
  await comment(world, 2);
  await comment(world, 1);
  assert.deepEqual(ids(events), ["c1", "c2", "c1"]);
});

test("the last 1,000 ids of a quiet topic are known, and no more", async (t) => {
  const world = browser(t);
  const { events } = await world.open({ topics: ["live:42", "chat:1"] });
  const slowly = (n) => comment(world, n, "live:42", { at: T + n * 100 });
  await comment(world, 0, "chat:1");
  for (let n = 0; n <= 1_000; n++) await slowly(n);
  await reopen(world);
  events.length = 0;
  // In this order: a forgotten one that comes again is remembered again, and pushes out the oldest.
  for (let n = 1_000; n >= 0; n--) await slowly(n);
  await comment(world, 0, "chat:1");
  assert.deepEqual(ids(events), ["c0"]);
});

test("what a resume repeats of a topic with hundreds of comments a second is dropped, and no more is kept than that", async (t) => {
  const world = browser(t);
  const { events } = await world.open();
  const block = (n) => `id: eu:${n}-0\ndata: ${JSON.stringify({ type: "comment", id: `c${n}`, topic: "live:42", at: T + n * 2, data: {} })}\n\n`;
  const quickly = (first, end) => world.source.bytes(Array.from({ length: end - first }, (_, at) => block(first + at)).join(""));
  await quickly(0, 20_500);
  await reopen(world);
  events.length = 0;
  await quickly(500, 20_501);
  await quickly(0, 1);
  assert.deepEqual(ids(events), ["c20500", "c0"]);
});

test("what is left out comes to who asks for all, from where the stream was, until it is asked for no longer", async (t) => {
  const world = browser(t);
  const { stream, events } = await world.open();
  await comment(world, 1, "live:42", { skipped: 40 });
  assert.equal(events[0].skipped, 40);
  assert.deepEqual(world.source.query.getAll("all"), []);
  stream.all("comment", "note");
  await settle();
  assert.deepEqual(world.source.query.getAll("all"), ["comment", "note"]);
  assert.equal(world.source.query.get("last_event_id"), "eu:1-0");
  await world.source.connected();
  await comment(world, 1);
  await comment(world, 2, "live:42", { shown: false });
  assert.deepEqual(events.map(({ id, shown }) => [id, shown]), [["c1", undefined], ["c2", false]]);
  stream.all();
  await settle();
  assert.deepEqual(world.source.query.getAll("all"), []);
});

test("an event that was on its way when its topic was removed reaches nobody", async (t) => {
  const world = browser(t);
  const { stream, events } = await world.open();
  world.remove("live:42");
  await comment(world, 1);
  assert.deepEqual(events, []);
});

test("what is no event ends nothing", async (t) => {
  const world = browser(t);
  const { events } = await world.open();
  for (const data of ["{", "null", "7", '"text"', "[]"]) await world.source.block("message", data);
  await world.source.bytes("data\n\n:\nnonsense: 1\nretry: soon\n\n");
  await comment(world, 1);
  assert.deepEqual([ids(events), world.mistakes], [["c1"], []]);
});

test("an event is the same wherever its bytes are cut, in a character too, and however its lines end", async (t) => {
  for (const end of ["\n", "\r\n", "\r"]) {
    await t.test(JSON.stringify(end), async (t) => {
      const world = browser(t);
      const { events } = await world.open();
      const event = { id: "c", topic: "live:42", type: "comment", at: T, data: { text: "zażółć 🎉" } };
      const [head, ...tail] = JSON.stringify(event).split(",");
      const lines = [":", "id:eu:7-0", `data: ${head},`, `data:${tail.join(",")}`, "", ":", ""];
      for (const byte of new TextEncoder().encode(`\uFEFF${lines.join(end)}`)) await world.source.bytes(Uint8Array.of(byte));
      assert.deepEqual(events, [event]);
      await reopen(world);
      assert.equal(world.source.query.get("last_event_id"), "eu:7-0");
    });
  }
});

test("what was cut before its end does not count, nor does its id", async (t) => {
  const world = browser(t);
  const { events } = await world.open();
  await comment(world, 1);
  await world.source.bytes('id: eu:2-0\ndata: {"id":"c2","topic":"live:42","type":"comment","at":1}\n');
  await reopen(world);
  assert.deepEqual([ids(events), world.source.query.get("last_event_id")], [["c1"], "eu:1-0"]);
});

// ---- the past

/** Answers to requests for history, a page each, the newest first. */
function past(world, ...pages) {
  const asked = [];
  world.answer = ({ method, path, query }) => {
    if (method !== "GET" || !path.endsWith("/v1/topics/live%3A42/events")) return undefined;
    asked.push(Object.fromEntries(query));
    const { numbers, ...more } = pages.shift();
    const listed = numbers.map((n) => ({ type: "comment", id: `c${n}`, topic: "live:42", at: T + n, data: {}, position: `eu:${n}-0` }));
    return json({ events: listed, more: false, ...more });
  };
  return asked;
}

test("from says where to begin: what history has comes first, in its order, and once", async (t) => {
  const world = browser(t);
  const { stream } = await world.start({ topics: [] });
  const asked = past(world, { numbers: [3, 4], more: true }, { numbers: [1, 2] });
  const subscription = stream.subscribe("live:42", { from: "earliest", types: ["comment"] }), seen = [];
  subscription.on("event", (event) => seen.push(event));
  subscription.on("gap", (gap) => seen.push(gap));
  await settle();
  assert.deepEqual(asked, [], "not before the stream has the topic, or what comes in between is missing");
  // In one piece: the last two come live, while the past is read.
  const live = [4, 5].map((n) => `id: eu:${n}-0\ndata: ${JSON.stringify({ type: "comment", id: `c${n}`, topic: "live:42", at: T + n, data: {} })}\n\n`);
  await world.source.bytes(`event: connected\ndata: {"connection":"c1","heartbeat_ms":20000}\n\n${live.join("")}`);
  assert.deepEqual(asked, [{ limit: "200" }, { limit: "200", before: "eu:3-0" }]);
  assert.deepEqual(ids(seen), ["c1", "c2", "c3", "c4", "c5"]);
  assert.equal(seen[0].position, undefined, "as on the stream");
  await reopen(world);
  assert.equal(asked.length, 2, "a resume needs no more of it");
});

test("from is a number of events, or a time", async (t) => {
  for (const [from, pages, expected, requests] of [
    [-3, [{ numbers: [8, 9], more: true }, { numbers: [7], more: true }], ["c7", "c8", "c9"], [{ limit: "3" }, { limit: "1", before: "eu:8-0" }]],
    [T + 8, [{ numbers: [7, 8, 9], more: true }], ["c8", "c9"], [{ limit: "200" }]],
    [new Date(T + 9), [{ numbers: [7, 8, 9], more: true }], ["c9"], [{ limit: "200" }]],
  ]) {
    await t.test(String(from), async (t) => {
      const world = browser(t);
      const { stream } = await world.open();
      const asked = past(world, ...pages);
      const seen = [];
      stream.subscribe("live:42", { from }).on("event", ({ id }) => seen.push(id));
      await settle();
      assert.deepEqual([seen, asked], [expected, requests]);
    });
  }
  const world = browser(t);
  const { stream } = await world.start();
  assert.throws(() => stream.subscribe("live:42", { from: "yesterday" }), RangeError);
});

test("a past that cannot be had is a gap, one that is only late is waited for", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  const answers = [problem(503, "away", { "Retry-After": "3" }), problem(404, "no such page")];
  world.answer = ({ method }) => method === "GET" ? answers.shift() : undefined;
  const seen = [], subscription = stream.subscribe("live:42", { from: -5 });
  for (const name of ["event", "gap"]) subscription.on(name, (what) => seen.push(what.id ?? what));
  await settle();
  await comment(world, 1);
  await world.tick(2_999);
  assert.deepEqual(seen, []);
  await world.tick(1);
  assert.deepEqual(seen, [{ topic: "live:42", after: null }, "c1"]);
});

// ---- latency

/** A server whose clock is `ahead`; each answer to /v1/time takes the next of `ways`: [there, back] in ms. */
function timeServer(world, ahead, ways) {
  const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  world.answer = async ({ path }) => {
    if (path !== "/v1/time") return undefined;
    const [there, back] = ways.shift();
    await after(there);
    const answer = json({ now: Date.now() + ahead });
    await after(back);
    return answer;
  };
}

/** Makes the clock known: the first event asks for the time, after a while. */
async function learnTime(world) {
  for (const id of ["first", "second"]) await world.source.event({ type: "like", id, count: 1 });
  for (let step = 0; step < 300; step++) await world.tick(50);
}

const times = (world) => world.requests.filter(({ path }) => path === "/v1/time").length;

test("the probe with the shortest way gives the clock, corrected by half of it", async (t) => {
  const world = browser(t);
  // The best probe is uneven too: 30 there, 10 back, so half of 40 is 10 too little.
  timeServer(world, 5_000, [[300, 0], [30, 10], [0, 90], [200, 100]]);
  const { stream } = await world.open();
  await world.source.event({ type: "like", id: "first", count: 1 });
  assert.equal(stream.latency, null, "before the clock is known nothing is said");
  await world.tick(4_999);
  assert.equal(times(world), 0, "half of 10 s by chance: not all who got the event ask at once");
  for (let step = 0; step < 200; step++) await world.tick(10);
  assert.equal(times(world), 4);
  // The server read its clock 30 ms after the request and the client takes it for 20, so its clock is 10 ms ahead. By
  // any other of the probes it would be 45 to 150 ms off.
  await world.source.event({ type: "like", id: "b", count: 1, at: Date.now() + 5_000 - 100 });
  assert.equal(stream.latency, 110);
});

test("an even way gives the exact clock, and the clocks' own error is never a negative latency", async (t) => {
  const world = browser(t);
  timeServer(world, -7_000, [[20, 20], [300, 0], [0, 300], [50, 50]]);
  const { stream } = await world.open();
  await learnTime(world);
  await world.source.event({ type: "like", id: "b", count: 1, at: Date.now() - 7_000 - 35 });
  assert.equal(stream.latency, 35);
  await world.source.event({ type: "like", id: "c", count: 1, at: Date.now() - 7_000 + 3 });
  assert.equal(stream.latency, 0);
});

test("an idle page never asks for the time, a busy one every 10 minutes, and sooner if it had no answer", async (t) => {
  const world = browser(t);
  await world.open();
  await world.tick(3_600_000);
  assert.equal(times(world), 0);
  world.answer = ({ path }) => path === "/v1/time" ? Promise.reject(new TypeError("network")) : undefined;
  await learnTime(world);
  assert.equal(times(world), 1, "it does not insist");
  world.answer = () => undefined;
  await world.tick(60_000);
  await learnTime(world);
  await learnTime(world);
  assert.equal(times(world), 5);
  await world.tick(600_000);
  await learnTime(world);
  assert.equal(times(world), 9);
});

test("a replay and the newest values of a new topic are no latencies", async (t) => {
  const world = browser(t), ahead = 60_000, serverNow = () => Date.now() + ahead;
  timeServer(world, ahead, Array(4).fill([20, 20]));
  const { stream } = await world.open({ sample: 1 });
  await learnTime(world);
  await world.source.event({ type: "comment", id: "c1", at: serverNow() - 40 }, "eu:1-0");
  assert.equal(stream.latency, 40);
  const missed = serverNow();
  await reopen(world);
  await world.source.event({ type: "comment", id: "c2", at: missed }, "eu:2-0");
  assert.equal(stream.latency, 40);
  await world.tick(5_000);
  const before = serverNow() - 1_000;
  world.add("live:7");
  await settle();
  await world.source.event({ type: "viewers", id: "v", topic: "live:7", at: before });
  assert.equal(stream.latency, 40);
  await world.tick(100);
  await world.source.event({ type: "viewers", id: "w", topic: "live:7", at: serverNow() - 15 });
  assert.equal(stream.latency, 15);
});

test("a hidden page is not measured, since there it is the browser that is late", async (t) => {
  const world = browser(t);
  const { stream } = await world.open({ sample: 1 });
  await learnTime(world);
  world.document.hidden = true;
  await world.source.event({ type: "like", id: "b", count: 1 });
  assert.equal(stream.latency, null);
  world.document.hidden = false;
  await world.source.event({ type: "like", id: "c", count: 1 });
  assert.equal(stream.latency, 0);
});

// ---- samples

test("samples go in batches, at most one in 10 s, with the times by the server's clock", async (t) => {
  const world = browser(t);
  timeServer(world, 5_000, [[20, 20], [20, 20], [20, 20], [20, 20]]);
  await world.open({ sample: 1, token: "mine" });
  await learnTime(world);
  const expected = [];
  for (let n = 0; n < 20; n++) {
    const received = Date.now() + 5_000, at = received - n;
    expected.push({ at, received });
    await world.source.event({ type: "like", id: `l${n}`, count: 1, at });
    await world.tick(1_000);
  }
  await world.tick(10_000);
  const sent = world.posts("/v1/received");
  assert.deepEqual(sent.map(({ body }) => body.samples.length), [10, 10]);
  assert.deepEqual(sent.flatMap(({ body }) => body.samples), expected);
  assert.ok(sent.every(({ keepalive, headers }) => keepalive && headers.authorization === "Bearer mine"));
  await world.tick(60_000);
  assert.equal(world.posts("/v1/received").length, 2, "nothing to say, nothing sent");
});

test("the share that is sampled is one in a hundred, or as asked", async (t) => {
  for (const [sample, expected] of [[undefined, 1], [0.05, 5], [0, 0]]) {
    await t.test(`${sample}`, async (t) => {
      const world = browser(t);
      await world.open({ sample });
      await learnTime(world);
      for (let n = 0; n < 100; n++) {
        world.random = n / 100;
        await world.source.event({ type: "like", id: `l${n}`, count: 1 });
      }
      await world.tick(10_000);
      assert.equal(world.posts("/v1/received").flatMap(({ body }) => body.samples).length, expected);
    });
  }
});

test("a page that goes sends its samples before it is gone", async (t) => {
  const world = browser(t);
  const { stream } = await world.open({ sample: 1 });
  await learnTime(world);
  await world.source.event({ type: "like", id: "b", count: 1 });
  world.page.dispatchEvent(new Event("pagehide"));
  assert.equal(world.posts("/v1/received").length, 1, "at once: no turn later there may be no page");
  world.page.dispatchEvent(new Event("pagehide"));
  await world.source.event({ type: "like", id: "c", count: 1 });
  stream.close();
  assert.equal(world.posts("/v1/received").length, 2);
  await world.tick(60_000);
  assert.equal(world.posts("/v1/received").length, 2);
});

test("a flood fills one batch of 100 and no more", async (t) => {
  const world = browser(t);
  await world.open({ sample: 1 });
  await learnTime(world);
  for (let n = 0; n < 1_000; n++) await world.source.event({ type: "like", id: `l${n}`, count: 1 });
  await world.tick(10_000);
  assert.deepEqual(world.posts("/v1/received").map(({ body }) => body.samples.length), [100]);
});
