// Topics of an open stream: `node --test tests/js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, json, problem, settle } from "./fakes.mjs";

const bodies = (world) => world.posts("/v1/connections/c1/topics").map(({ body }) => body);

/** Lets the test answer each request when it likes. */
function held(world) {
  const waiting = [];
  world.answer = () => new Promise((resolve) => waiting.push(resolve));
  return waiting;
}

test("a stream may begin without topics", async (t) => {
  const world = browser(t);
  const { stream } = await world.open({ topics: [] });
  assert.deepEqual([...world.source.query], []);
  world.add("chat:1");
  await settle();
  assert.deepEqual(bodies(world), [{ add: ["chat:1"], remove: [] }]);
});

test("topics added in the turn that connects go with the request", async (t) => {
  const world = browser(t);
  const starting = world.start();
  world.add("chat:1");
  await starting;
  assert.deepEqual(world.source.query.getAll("topic"), ["live:42", "chat:1"]);
  await world.source.connected();
  await settle();
  assert.deepEqual(bodies(world), []);
});

test("topics changed while connecting are sent once it is connected", async (t) => {
  const world = browser(t);
  const { stream } = await world.start();
  world.add("chat:1");
  world.remove("live:42");
  await settle();
  assert.deepEqual(world.requests, []);
  await world.source.connected();
  await settle();
  assert.deepEqual(bodies(world), [{ add: ["chat:1"], remove: ["live:42"] }]);
  assert.deepEqual(world.topics, ["chat:1"]);
});

test("what changes in one turn is one request, and what changes back is none", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  world.add("chat:1", "chat:2");
  world.add("chat:3");
  world.remove("chat:2");
  await settle();
  assert.deepEqual(bodies(world), [{ add: ["chat:1", "chat:3"], remove: [] }]);
  world.remove("chat:1");
  world.add("chat:1", "live:42");
  await settle();
  assert.equal(bodies(world).length, 1);
});

test("requests do not overtake each other: what changes during one goes with the next", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  const waiting = held(world);
  world.add("chat:1");
  await settle();
  world.remove("chat:1");
  world.add("chat:2");
  await settle();
  assert.equal(bodies(world).length, 1);
  waiting.shift()(json({ topics: [], pending: [] }));
  await settle();
  assert.deepEqual(bodies(world)[1], { add: ["chat:2"], remove: ["chat:1"] });
});

test("topics changed while reconnecting go with the next request, and so does what was on its way", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  const waiting = held(world);
  world.add("chat:1");
  await settle();
  await world.source.cut();
  world.add("chat:2");
  world.remove("live:42");
  await world.tick(2_000);
  assert.deepEqual(world.source.query.getAll("topic"), ["chat:1", "chat:2"]);
  await world.source.connected({ connection: "c2" });
  // The old connection's answer comes at last, and means nothing any more.
  waiting.shift()(problem(412, "gone"));
  await world.tick(60_000);
  assert.deepEqual([stream.state, world.sources.length, world.requests.length], ["open", 2, 1]);
});

test("a topic added to the new stream is sent there though the old one's request still waits", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  held(world);
  world.add("chat:1");
  await settle();
  await world.source.cut();
  await world.tick(2_000);
  await world.source.connected({ connection: "c2/x" });
  world.add("chat:2");
  await settle();
  const sent = world.posts("/v1/connections/c2%2Fx/topics");
  assert.deepEqual(sent.map(({ body }) => body), [{ add: ["chat:2"], remove: [] }]);
});

test("412: the connection is gone, and a new one has the full set and resumes", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  await world.source.event({ type: "comment", id: "a" }, "eu:7-0");
  const [first] = world.sources;
  world.answer = () => problem(412, "this connection is gone");
  world.add("chat:1");
  await settle();
  assert.deepEqual([stream.state, first.closed], ["reconnecting", true]);
  await world.tick(2_000);
  assert.deepEqual(world.source.query.getAll("topic"), ["live:42", "chat:1"]);
  assert.equal(world.source.query.get("last_event_id"), "eu:7-0");
  await world.source.connected({ connection: "c2" });
  await settle();
  assert.equal(world.requests.length, 1);
});

test("401: the token no longer counts, and a new stream with a fresh one has the full set", async (t) => {
  const world = browser(t);
  let given = 0;
  const { stream } = await world.open({ token: () => `token-${++given}` });
  world.answer = () => problem(401, "the token has expired");
  world.add("chat:1");
  await settle();
  await world.tick(2_000);
  await world.source.fail(problem(401, "the token has expired"));
  await world.tick(4_000);
  assert.equal(world.source.token, "token-2");
  assert.deepEqual(world.source.query.getAll("topic"), ["live:42", "chat:1"]);
});

test("a server that is busy is asked again after Retry-After, one that is away after a backoff", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  const busy = () => problem(429, "slowly", { "Retry-After": "9" }), away = () => { throw new TypeError("network"); };
  const answers = [busy, away];
  world.answer = () => answers.shift()?.();
  world.add("chat:1");
  await settle();
  await world.tick(8_999);
  assert.equal(world.requests.length, 1);
  await world.tick(1);
  assert.equal(world.requests.length, 2);
  await world.tick(2_000);
  assert.deepEqual(bodies(world), Array(3).fill({ add: ["chat:1"], remove: [] }));
  await world.tick(60_000);
  assert.deepEqual([world.requests.length, world.sources.length], [3, 1]);
});

test("one forbidden topic costs the others nothing", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  const refused = [];
  stream.on("closed", (what) => refused.push(what));
  world.answer = ({ body }) => body.add.includes("chat:secret") ? problem(403, "chat:secret is not yours") : undefined;
  world.add("chat:1");
  stream.subscribe("chat:secret").on("state", (what) => refused.push(what));
  world.add("chat:2");
  world.remove("live:42");
  await settle();
  assert.deepEqual(refused, [{ state: "closed", status: 403, detail: "chat:secret is not yours" }]);
  assert.deepEqual(world.topics, ["chat:1", "chat:2"]);
  assert.equal(stream.state, "open");
  // What the server took, counted from its side.
  const served = new Set(["live:42"]);
  for (const { add, remove } of bodies(world).filter(({ add }) => !add.includes("chat:secret"))) {
    for (const topic of add) served.add(topic);
    for (const topic of remove) served.delete(topic);
  }
  assert.deepEqual([...served], ["chat:1", "chat:2"]);
  assert.ok(world.requests.length <= 5, "it ends");
});

/** A server that gives a token's rights to all topics but those in the list. */
async function answersWithout(world, forbidden) {
  world.answer = ({ body }) => body?.add?.some((topic) => forbidden.includes(topic)) ? problem(403, "not yours") : undefined;
  for (let tries = 0; tries < 10 && world.stream.state !== "open"; tries++) {
    const asked = world.source.query.getAll("topic");
    if (asked.some((topic) => forbidden.includes(topic))) await world.source.fail(problem(403, "not yours"));
    else await world.source.connected();
  }
}

test("one forbidden topic costs the others nothing when the stream begins, either", async (t) => {
  const world = browser(t);
  const { stream } = await world.start({ topics: ["chat:1", "chat:secret", "chat:2"] });
  const secret = stream.subscribe("chat:secret"), states = [];
  secret.on("state", (state) => states.push(state));
  await answersWithout(world, ["chat:secret"]);
  assert.deepEqual(states, [{ state: "closed", status: 403, detail: "not yours" }]);
  assert.deepEqual([stream.state, world.topics, world.sources.length], ["open", ["chat:1", "chat:2"], 2]);
});

test("one that becomes forbidden takes its own events with it: of the others a gap tells", async (t) => {
  const world = browser(t);
  const { stream } = await world.open({ topics: ["chat:1", "chat:2"] });
  const gaps = [];
  stream.on("gap", (gap) => gaps.push(gap));
  await world.source.event({ type: "message", id: "a", topic: "chat:1" }, "eu:1-0");
  await world.source.cut();
  world.add("chat:3");
  await world.tick(2_000);
  await answersWithout(world, ["chat:2"]);
  assert.deepEqual([stream.state, world.topics], ["open", ["chat:1", "chat:3"]]);
  assert.deepEqual(gaps, ["chat:1", "chat:2"].map((topic) => ({ topic, after: "eu:1-0" })));
});

test("what was added after a refusal is asked for with the next stream, though not all is added yet", async (t) => {
  const world = browser(t);
  await world.start({ topics: ["chat:1", "chat:2", "chat:3"] });
  world.answer = ({ body }) => body.add.length > 1 ? problem(403, "not yours") : body.add[0] === "chat:1" ? undefined : new Promise(() => {});
  await world.source.fail(problem(403, "not yours"));
  await world.source.connected({}, "eu:1-0");
  await world.source.cut();
  await world.tick(30_000);
  assert.deepEqual(world.source.query.getAll("topic"), ["chat:1"]);
});

test("a topic that is new and forbidden costs those that were there no place in history", async (t) => {
  const world = browser(t);
  const { stream } = await world.open({ topics: ["chat:1", "chat:2"] });
  const gaps = [];
  stream.on("gap", (gap) => gaps.push(gap));
  await world.source.event({ type: "message", id: "a", topic: "chat:1" }, "eu:1-0");
  await world.source.cut();
  world.add("chat:3");
  await world.tick(2_000);
  await answersWithout(world, ["chat:3"]);
  assert.deepEqual(world.source.query.getAll("topic"), ["chat:1", "chat:2"]);
  assert.deepEqual([world.source.query.get("last_event_id"), gaps, world.topics], ["eu:1-0", [], ["chat:1", "chat:2"]]);
});

test("two spellings of a topic are one topic", async (t) => {
  const world = browser(t);
  const { stream, events } = await world.start({ topics: ["live:caf%c3%a9", "live:caf%C3%A9", "chat:%34%32"] });
  assert.deepEqual(world.topics, ["live:caf%C3%A9", "live:caf%C3%A9", "chat:42"]);
  assert.deepEqual(world.source.query.getAll("topic"), ["live:caf%C3%A9", "chat:42"]);
  await world.source.connected();
  await world.source.event({ type: "like", id: "a", count: 1, topic: "live:caf%C3%A9" });
  assert.deepEqual([stream.state, events.length], ["open", 1]);
});

test("taps of a quarter of a second are one request", async (t) => {
  const world = browser(t);
  const { stream } = await world.open({ member: "ana" });
  for (let tap = 0; tap < 150; tap++) stream.tap("a b", "love");
  stream.tap("a b");
  await world.tick(249);
  assert.deepEqual(world.posts("/taps"), []);
  await world.tick(1);
  const taps = world.posts("/v1/videos/a%20b/taps").map(({ body }) => body);
  assert.deepEqual(taps, [{ member: "ana", reaction: "love", count: 100 }, { member: "ana", reaction: "like", count: 1 }]);
  stream.tap("a b");
  await world.tick(250);
  assert.equal(world.posts("/taps").length, 3);
});
