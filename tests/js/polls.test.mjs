// Networks that hold streams back: `node --test tests/js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { T, browser, problem, settle } from "./fakes.mjs";

const comment = (id, topic = "live:42") => ({ id, topic, type: "comment", at: T, data: {} });
const ids = (events) => events.map(({ id }) => id);

/** A connection whose stream was held back. */
async function polling(t, options) {
  const world = browser(t), made = await world.start(options);
  await world.tick(6_000);
  assert.deepEqual([world.source.closed, world.polls.length], [true, 1]);
  return { world, ...made };
}

/** The same, once a stream is to be tried again, which it is with the next poll. */
async function trying(t, options) {
  const made = await polling(t, options), { world } = made;
  await world.poll.answer([comment("c1")], "eu:1-0@1000");
  await world.tick(20_000);
  await world.poll.answer([comment("c1")], "eu:1-0@1000");
  await world.tick(24_999);
  await world.poll.answer([comment("c1")], "eu:1-0@1000");
  assert.equal(world.sources.length, 1);
  // Chance gives three quarters of a minute.
  await world.tick(1);
  await world.poll.answer([comment("c2")], "eu:2-0@2000");
  assert.equal(world.sources.length, 2);
  return made;
}

test("a stream of which nothing comes, of a server that answers otherwise, is a poll six seconds later", async (t) => {
  const world = browser(t);
  const { states, events } = await world.start({ topics: ["live:42", "chat:1"], member: "ana", all: ["comment"], token: "secret" });
  await world.tick(5_999);
  assert.deepEqual([world.source.closed, world.requests.length], [false, 0]);
  await world.tick(1);
  assert.equal(world.source.closed, true);
  const { query, token } = world.poll;
  const since = ["from", String(T - 10_000)];
  assert.deepEqual([...query], [["topic", "live:42"], ["topic", "chat:1"], ["all", "comment"], ["member", "ana"], since]);
  assert.equal(token, "secret");
  assert.deepEqual(states, [], "it connects still");
  await world.poll.answer([comment("c1"), comment("c2", "chat:1")], "eu:2-0@1000");
  assert.deepEqual([states.map(({ state }) => state), ids(events)], [["open"], ["c1", "c2"]]);
  // At once, from there.
  assert.equal(world.poll.query.get("last_event_id"), "eu:2-0@1000");
  await world.poll.answer([comment("c2", "chat:1"), comment("c3")], "eu:3-0@2000");
  assert.deepEqual([states.length, ids(events)], [1, ["c1", "c2", "c3"]]);
  assert.equal(world.sources.length, 1);
});

test("a head without connected is a stream that is held back, too", async (t) => {
  const world = browser(t);
  await world.start();
  await world.source.bytes(":\n");
  await world.tick(6_000);
  assert.deepEqual([world.source.closed, world.polls.length], [true, 1]);
});

test("neither a server that is not there nor one that refuses is polled", async (t) => {
  for (const [name, act] of [
    ["nobody there", (world) => world.source.cut()],
    ["503", (world) => world.source.fail(problem(503, "busy", { "Retry-After": "3" }))],
    ["connected in time", (world) => world.source.connected()],
  ]) {
    await t.test(name, async (t) => {
      const world = browser(t);
      await world.start();
      await world.tick(3_000);
      await act(world);
      await world.tick(5_900);
      assert.equal(world.polls.length, 0);
    });
  }
});

test("a poll that waits is open, and one that waits for too long is given up", async (t) => {
  const { world, states } = await polling(t);
  await world.tick(1_999);
  assert.deepEqual(states, []);
  await world.tick(1);
  assert.deepEqual(states, [{ state: "open" }]);
  await world.poll.answer([], "eu:1-0@1");
  await world.tick(2_000);
  const waits = world.poll;
  await world.tick(29_999);
  assert.equal(waits.closed, false);
  await world.tick(1);
  assert.deepEqual([waits.closed, states.at(-1).state], [true, "reconnecting"]);
  assert.match(states.at(-1).detail, /silent/);
  await world.tick(1_500);
  assert.deepEqual([world.sources.length, world.poll.query.get("last_event_id")], [1, "eu:1-0@1"]);
});

test("polls that were never answered are followed by a stream", async (t) => {
  for (const how of ["silent", "404", "no poll"]) {
    await t.test(how, async (t) => {
      const { world } = await polling(t);
      if (how === "silent") await world.tick(2_000);
      if (how === "silent") await world.tick(30_000);
      else await world.poll.fail(how === "404" ? problem(404, "no such path") : new Response("<p>Sign in</p>"));
      await world.tick(2_000);
      assert.deepEqual([world.sources.length, world.polls.length], [2, 1]);
      await world.tick(6_000);
      assert.equal(world.polls.length, how === "404" ? 1 : 2);
    });
  }
});

test("polls that fail come back after a while, which grows, and not before Retry-After", async (t) => {
  const { world, states } = await polling(t);
  await world.poll.answer([comment("c1")], "eu:1-0@1", 0);
  world.random = 1;
  await world.poll.fail();
  await world.tick(2_000);
  await world.poll.fail();
  await world.tick(4_000);
  await world.poll.fail(problem(503, "busy", { "Retry-After": "9" }));
  const waits = states.filter(({ retryMs }) => retryMs !== undefined).map(({ retryMs }) => retryMs);
  assert.deepEqual(waits, [2_000, 4_000, 9_000]);
  await world.tick(8_999);
  assert.equal(world.polls.length, 4);
  await world.tick(1);
  assert.equal(world.poll.query.get("last_event_id"), "eu:1-0@1");
  await world.poll.answer([comment("c2")], "eu:2-0@1");
  assert.deepEqual(states.at(-1), { state: "open" });
});

test("an answer without events that comes at once is not asked for again at once", async (t) => {
  const { world } = await polling(t);
  await world.poll.answer([], "eu:1-0@1", 1_500);
  await world.tick(1_499);
  assert.equal(world.polls.length, 1);
  await world.tick(1);
  assert.equal(world.polls.length, 2);
});

test("gaps are told, and an event of that name is none", async (t) => {
  const { world, stream, events } = await polling(t);
  const gaps = [];
  stream.on("gap", (gap) => gaps.push(gap));
  await world.poll.answer([{ type: "gap", topic: "live:42", after: "eu:1-0" }, { ...comment("g"), type: "gap" }], "eu:2-0@1");
  assert.deepEqual([gaps, ids(events)], [[{ topic: "live:42", after: "eu:1-0" }], ["g"]]);
});

test("topics that change end the poll, and the newest values of an added one are asked for", async (t) => {
  const { world } = await polling(t);
  await world.poll.answer([comment("c1")], "eu:1-0@1000");
  const [, waits] = world.polls;
  world.add("chat:1", "chat:2");
  await settle();
  assert.deepEqual([waits.closed, world.polls.length], [true, 3]);
  assert.deepEqual([...world.poll.query], [["topic", "live:42"], ["topic", "chat:1"], ["topic", "chat:2"], ["last_event_id", "eu:1-0"]]);
  const subscription = world.stream.subscribe("chat:1");
  await world.poll.answer([comment("c2", "chat:1")], "eu:2-0@2000");
  assert.equal(subscription.state, "open");
  assert.equal(world.poll.query.get("last_event_id"), "eu:2-0@2000");
  world.remove("chat:2");
  await settle();
  assert.deepEqual(world.poll.query.getAll("topic"), ["live:42", "chat:1"]);
  assert.equal(world.requests.filter(({ method }) => method === "POST").length, 0);
});

test("what a handler changes loses nothing of the answer that it heard", async (t) => {
  const { world, stream, events } = await polling(t);
  stream.on("event", ({ id }) => { if (id === "c1") world.add("chat:1"); });
  await world.poll.answer([comment("c1"), comment("c2")], "eu:2-0@1000");
  assert.deepEqual(ids(events), ["c1", "c2"]);
  assert.deepEqual([world.polls.length, world.poll.query.get("last_event_id")], [2, "eu:2-0"]);
});

test("one topic that may not be had costs the others nothing", async (t) => {
  const topics = ["live:1", "live:2", "live:3", "live:4", "live:5"];
  const { world, stream } = await polling(t, { topics: ["live:0"] });
  await world.poll.answer([], "eu:1-0@1000", 0);
  await world.tick(1_000);
  await world.tick(2_000);
  world.add(...topics);
  await settle();
  while (world.poll.query.getAll("topic").length !== 5 || world.topics.includes("live:3")) {
    const asked = world.polls.length;
    if (world.poll.query.getAll("topic").includes("live:3")) await world.poll.fail(problem(403, "not yours"));
    else await world.poll.answer([comment("c")], "eu:1-0@1000");
    assert.ok(world.polls.length > asked && asked < 20);
  }
  assert.deepEqual(world.poll.query.getAll("topic"), ["live:0", "live:1", "live:2", "live:4", "live:5"]);
  assert.deepEqual([world.topics.includes("live:3"), stream.state], [false, "open"]);
});

test("a token that ends is renewed once, and after 401 once more", async (t) => {
  let given = 0;
  const { world, stream } = await polling(t, { token: async () => `token-${++given}` });
  const told = [];
  stream.on("token", (token) => told.push(token));
  for (const name of ["c1", "c2"]) await world.poll.answer([comment(name), { type: "token", expires_at: 7 }], "eu:1-0@1000");
  assert.deepEqual([given, world.poll.token, told], [2, "token-2", [{ expires_at: 7 }, { expires_at: 7 }]]);
  await world.poll.fail(problem(401, "the token has expired"));
  await world.tick(2_000);
  assert.equal(world.poll.token, "token-3");
  await world.poll.fail(problem(401, "the token has expired"));
  assert.deepEqual([stream.state, world.polls.length, world.sources.length], ["closed", 4, 1]);
});

test("a stream that comes through beside polls takes their place, and nothing is lost or doubled", async (t) => {
  const { world, states, events, stream } = await trying(t);
  const beside = world.poll;
  assert.equal(world.source.query.get("last_event_id"), "eu:2-0@2000");
  await world.source.bytes("id: eu:2-0\nevent: conn");
  assert.equal(beside.closed, false);
  await beside.answer([comment("c3")], "eu:3-0@3000");
  await world.source.bytes(`ected\ndata: {"connection":"c1","heartbeat_ms":20000}\n\n`);
  assert.equal(world.poll.closed, true);
  for (const id of ["c2", "c3", "c4"]) await world.source.event(comment(id), `eu:${id[1]}-0`);
  assert.deepEqual(ids(events), ["c1", "c2", "c3", "c4"]);
  assert.deepEqual(states, [{ state: "open" }]);
  const asked = world.polls.length;
  world.add("chat:1");
  await settle();
  assert.equal(world.posts("/v1/connections/c1/topics").length, 1);
  // It is given up neither by the trial's time limit nor by one of the polls.
  await world.tick(39_999);
  assert.deepEqual([world.source.closed, world.polls.length], [false, asked]);
  // It falls silent: polls again, at once.
  await world.tick(1);
  await world.tick(2_000);
  assert.deepEqual([world.source.closed, world.sources.length, world.polls.length], [true, 2, asked + 1]);
  assert.equal(world.poll.query.get("last_event_id"), "eu:4-0");
  stream.close();
  assert.equal(world.poll.closed, true);
});

test("a stream that is held back still is tried less and less often, and disturbs no poll", async (t) => {
  const { world, states } = await trying(t);
  const poll = world.poll;
  await world.tick(5_999);
  assert.equal(world.source.closed, false);
  await world.tick(1);
  assert.deepEqual([world.source.closed, poll.closed, states], [true, false, [{ state: "open" }]]);
  // Three quarters of two minutes after the last one.
  for (const [ms, sources] of [[23_999, 2], [30_000, 2], [29_999, 2], [2, 3]]) {
    await world.tick(ms);
    await world.poll.answer([comment("c3")], "eu:3-0@3000");
    assert.equal(world.sources.length, sources);
  }
  await world.source.block("bye", { reason: "busy", retry_ms: 1 });
  assert.deepEqual([world.source.closed, world.poll.closed], [true, false]);
});

test("closed while it tries a stream, it lets go of both", async (t) => {
  const { world, stream } = await trying(t);
  stream.close();
  assert.deepEqual([world.source.closed, world.poll.closed], [true, true]);
});

test("another network, perhaps, is asked for a stream at once", async (t) => {
  const { world } = await polling(t);
  await world.poll.answer([comment("c1")], "eu:1-0@1000");
  world.page.dispatchEvent(new Event("online"));
  await world.tick(2_000);
  assert.deepEqual([world.sources.length, world.source.query.get("last_event_id"), world.poll.closed], [2, "eu:1-0@1000", true]);
});

test("a page that is seen again looks whether its poll is still good", async (t) => {
  const { world, states } = await polling(t);
  await world.tick(2_000);
  t.mock.timers.setTime(Date.now() + 30_000);
  world.page.dispatchEvent(new Event("visibilitychange"));
  assert.equal(states.at(-1).state, "reconnecting");
});
