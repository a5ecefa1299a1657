// Tabs that share one stream: `node --test tests/js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { T, json, problem, replace, settle } from "./fakes.mjs";
import { jwt, tabs } from "./tabs_fakes.mjs";

const comment = (id, topic = "live:42") => ({ id, topic, type: "comment", at: T, data: {} });
const asked = (source) => source.query.getAll("topic").sort();

/** Tabs that share an open stream, with a topic of all and one of each. */
async function sharing(t, names, options) {
  const world = tabs(t), all = [];
  for (const name of names) {
    all.push(await world.tab(name, ["live:42", `chat:${name}`], options));
    if (all.length === 1) await world.source.connected({}, "eu:0-0");
    await settle();
  }
  return { world, all };
}

test("seven tabs have one stream, with the topics of all, and each hears its own", async (t) => {
  const names = ["a", "b", "c", "d", "e", "f", "g"], { world, all } = await sharing(t, names);
  assert.deepEqual([world.sources.length, world.polls.length], [1, 0]);
  const added = world.posts("/v1/connections/c1/topics").flatMap(({ body }) => body.add);
  assert.deepEqual([asked(world.source), added], [["chat:a", "live:42"], names.slice(1).map((name) => `chat:${name}`)]);
  await world.source.event(comment("to all"), "eu:1-0");
  for (const name of names) await world.source.event(comment(`to ${name}`, `chat:${name}`), "eu:2-0");
  for (const { name, events, states, gaps, connection, subscriptions } of all) {
    assert.deepEqual([events, states, gaps], [["to all", `to ${name}`], ["open"], []]);
    assert.deepEqual([connection.state, ...[...subscriptions.values()].map(({ state }) => state)], ["open", "open", "open"]);
  }
});

test("the next one leads when the leader dies: from its last event, with the topics of all, and repeats are dropped", async (t) => {
  const { world, all: [a, b, c] } = await sharing(t, ["a", "b", "c"]);
  await world.source.event(comment("c1"), "eu:1-0");
  // The last words, which the others have not heard yet.
  world.source.event(comment("c2"), "eu:2-0");
  await new Promise((resolve) => setImmediate(resolve));
  await world.kill(a);
  assert.equal(world.sources.length, 2);
  assert.deepEqual([world.source.query.get("last_event_id"), asked(world.source)], ["eu:2-0", ["chat:b", "chat:c", "live:42"]]);
  await world.source.connected({ connection: "c2" }, "eu:2-0");
  for (const id of ["c1", "c2", "c3"]) await world.source.event(comment(id), `eu:${id[1]}-0`);
  for (const { events, states, gaps } of [b, c]) {
    assert.deepEqual([events, states, gaps], [["c1", "c2", "c3"], ["open", "reconnecting", "open"], []]);
  }
  // A tab that dies takes what only it wanted along.
  await world.kill(c);
  assert.deepEqual(world.posts("/v1/connections/c2/topics").map(({ body }) => body), [{ add: [], remove: ["chat:c"] }]);
});

test("a topic that may not be had costs the others no place when another tab begins to lead", async (t) => {
  const { world, all: [a, b] } = await sharing(t, ["a", "b"]);
  world.answer = ({ path, body }) => path.endsWith("/topics") && body.add.includes("chat:x") && problem(403, "not yours");
  world.busy(a);
  b.follow("chat:x");
  await settle();
  await world.kill(a);
  assert.deepEqual(asked(world.source), ["chat:b", "chat:x", "live:42"]);
  await world.source.fail(problem(403, "not yours"));
  assert.deepEqual([asked(world.source), world.source.query.get("last_event_id")], [["chat:b", "live:42"], "eu:0-0"]);
  await world.source.connected({ connection: "c2" }, "eu:0-0");
  assert.deepEqual([b.gaps, b.connection.state, b.subscriptions.get("chat:x").state], [[], "open", "closed"]);
});

test("a tab that comes later is told what is newest, and nobody else again", async (t) => {
  const { world, all: [a] } = await sharing(t, ["a"]);
  await world.source.event({ id: "l1", topic: "live:42", type: "likes", data: { likes: 1 } });
  await world.source.event({ id: "l2", topic: "live:42", type: "likes", data: { likes: 2 } });
  const requests = world.requests.length, b = await world.tab("b", ["live:42"]);
  assert.deepEqual([a.events, b.events, b.connection.state, b.connected], [["l1", "l2"], ["l2"], "open", ["c1"]]);
  assert.deepEqual([world.sources.length, world.requests.length], [1, requests]);
  await world.source.event(comment("c1"), "eu:1-0");
  assert.deepEqual([a.events.at(-1), b.events.at(-1)], ["c1", "c1"]);
  // Who leaves a topic and comes back is told anew.
  b.subscriptions.get("live:42").close();
  await settle();
  await world.source.event({ id: "l3", topic: "live:42", type: "likes", data: { likes: 3 } });
  const again = [];
  b.follow("live:42").on("event", ({ id }) => again.push(id));
  await settle();
  assert.deepEqual([b.events, again, b.gaps], [["l2", "c1", "l3"], ["l3"], []]);
  assert.deepEqual(world.posts("/topics").length, 0);
});

test("a tab that led closes its connection, and one that is told nothing yet goes on where it was", async (t) => {
  const { world, all: [a, b] } = await sharing(t, ["a", "b"]);
  a.connection.close();
  await settle();
  assert.deepEqual([world.sources[0].closed, world.sources.length, world.source.token], [true, 2, jwt({ jti: "b" })]);
  assert.deepEqual([world.source.query.get("last_event_id"), asked(world.source)], ["eu:0-0", ["chat:b", "live:42"]]);
  assert.deepEqual([a.states, b.states], [["open", "closed"], ["open", "reconnecting"]]);
});

test("others than those of the same server, member and rights share nothing", async (t) => {
  const rights = { fanfare: { subscribe: ["live:*"] } }, of = (world) => [world.sources.length, world.groups().size];
  for (const [name, one, other, expected] of [
    ["another token of the same rights", { claims: { ...rights, iat: 1, nbf: 1 } }, { claims: { ...rights, iat: 2, exp: T / 1_000 + 60 } }, [1, 1]],
    ["other rights", { claims: rights }, { claims: { fanfare: { subscribe: ["live:*", "chat:*"] } } }, [2, 2]],
    ["another member", { claims: rights }, { claims: { ...rights, sub: "bo" } }, [2, 2]],
    ["another member in the query", { token: undefined, member: "ana" }, { token: undefined, member: "bo" }, [2, 2]],
    ["a token and none", { claims: rights }, { token: undefined }, [2, 2]],
    ["a token that cannot be read", { token: "secret" }, { token: "secret" }, [2, 0]],
    ["what moderators ask for", { claims: rights, all: ["comment"] }, { claims: rights, all: ["comment"] }, [2, 0]],
    ["cookies and none", { claims: rights }, { claims: rights, withCredentials: true }, [2, 2]],
    ["not wanted", { claims: rights }, { claims: rights, share: false }, [2, 1]],
  ]) {
    await t.test(name, async (t) => {
      const world = tabs(t);
      await world.tab("a", ["live:42"], one);
      await world.source.connected();
      await world.tab("b", ["live:42"], other);
      assert.deepEqual(of(world), expected);
    });
  }
});

test("where the browser has no locks, no channels, or gives none to this page, each tab has its own stream", async (t) => {
  for (const lacks of ["locks", "channels", "rights"]) {
    await t.test(lacks, async (t) => {
      const world = tabs(t);
      if (lacks === "locks") replace(t, "navigator", {});
      if (lacks === "channels") replace(t, "BroadcastChannel", undefined);
      world.refusesLocks = lacks === "rights";
      const a = await world.tab("a", ["live:42"]), b = await world.tab("b", ["live:42"]);
      assert.equal(world.sources.length, 2);
      for (const source of world.sources) await source.connected();
      assert.deepEqual([a.states, b.states], [["open"], ["open"]]);
    });
  }
});

test("without a token the server is asked whether a tab may hear what another one's stream has", async (t) => {
  for (const [name, status, streams] of [["it may", 200, 1], ["another member signed in meanwhile", 403, 2], ["it cannot be known", 412, 2]]) {
    await t.test(name, async (t) => {
      const world = tabs(t);
      const a = await world.tab("a", ["live:42"], { token: undefined });
      await world.source.connected({}, "eu:1-0");
      world.answer = ({ path }) => path.endsWith("/topics") && problem(status, "as the test says");
      world.busy(a);
      const b = await world.tab("b", ["live:42", "chat:1"], { token: undefined });
      await world.source.event(comment("before it is let in"), "eu:2-0");
      await world.idle(a);
      await settle();
      const [own] = world.posts("/v1/connections/c1/topics").filter(({ body }) => body.add.includes("live:42"));
      assert.deepEqual(own.body, { add: ["live:42", "chat:1"], remove: [] });
      assert.equal(world.sources.length, streams);
      if (streams === 2) assert.deepEqual([b.events, b.connection.state], [[], "connecting"]);
      else assert.deepEqual([b.events, b.connection.state], [[], "open"]);
    });
  }
});

test("a frozen tab hands over, and makes up for what it missed when it is back", async (t) => {
  const { world, all: [a, b] } = await sharing(t, ["a", "b"]);
  await world.source.event(comment("c1"), "eu:1-0");
  a.document.dispatchEvent(new Event("freeze"));
  await settle();
  assert.deepEqual([world.sources[0].closed, world.source.query.get("last_event_id")], [true, "eu:1-0"]);
  await world.source.connected({ connection: "c2" }, "eu:1-0");
  await world.source.event(comment("c2"), "eu:2-0");
  await world.source.event(comment("c3"), "eu:3-0");
  assert.deepEqual(a.events, ["c1"]);
  let give;
  world.answer = ({ path }) => path.endsWith("/v1/topics/live%3A42/events") && new Promise((resolve) => { give = resolve; });
  a.document.dispatchEvent(new Event("resume"));
  await settle();
  const { query } = world.requests.at(-1);
  assert.deepEqual([query.get("after"), query.get("limit")], ["eu:1-0", "200"]);
  await world.source.event(comment("c4"), "eu:4-0");
  assert.deepEqual(a.events, ["c1"]);
  const place = (number) => ({ ...comment(`c${number}`), position: `eu:${number}-0` });
  give(json({ events: [place(2)], more: true }));
  await settle();
  assert.equal(world.requests.at(-1).query.get("after"), "eu:2-0");
  give(json({ events: [place(3), place(4)], more: false }));
  await settle();
  assert.deepEqual([a.events, b.events], [["c1", "c2", "c3", "c4"], ["c1", "c2", "c3", "c4"]]);
  // Of the chat, of which nobody answers, that is not known.
  assert.deepEqual(a.gaps, [{ topic: "chat:a", after: "eu:1-0" }]);
  assert.deepEqual([a.states, world.sources.length], [["open", "reconnecting", "open"], 2]);
  await world.kill(b);
  assert.equal(world.source.query.get("last_event_id"), "eu:4-0");
});

test("a page in the back-forward cache holds nothing up, and comes back", async (t) => {
  const { world, all: [a] } = await sharing(t, ["a"]);
  await world.source.event(comment("c1"), "eu:1-0");
  a.page.dispatchEvent(new Event("pagehide"));
  await settle();
  assert.deepEqual([world.source.closed, world.channels.size], [true, 0]);
  a.page.dispatchEvent(new Event("visibilitychange"));
  a.page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  await settle();
  await world.tick(2_000);
  assert.deepEqual([world.sources.filter(({ closed }) => !closed).length, world.source.query.get("last_event_id")], [1, "eu:1-0"]);
});

test("a tab that is busy when another one begins to lead is waited for, but not for long, and a gap is told", async (t) => {
  const { world, all: [a, b, c] } = await sharing(t, ["a", "b", "c"]);
  await world.source.event(comment("c1"), "eu:1-0");
  world.busy(c);
  await world.kill(a);
  assert.equal(world.sources.length, 1);
  await world.tick(700);
  assert.deepEqual([world.sources.length, asked(world.source)], [2, ["chat:b", "live:42"]]);
  await world.source.connected({ connection: "c2" }, "eu:1-0");
  await world.source.event(comment("c2"), "eu:2-0");
  await world.idle(c);
  assert.deepEqual(world.posts("/v1/connections/c2/topics").at(-1).body, { add: ["chat:c"], remove: [] });
  assert.deepEqual([b.events, c.events, b.gaps], [["c1", "c2"], ["c1", "c2"], []]);
  assert.deepEqual([c.gaps.map(({ topic }) => topic), c.states], [["chat:c"], ["open", "reconnecting", "open"]]);
});

test("a leader that stands still loses its place, and follows when it goes on", async (t) => {
  const { world, all: [a, b, c] } = await sharing(t, ["a", "b", "c"]), stream = world.source;
  let chance = 0;
  Object.defineProperty(world, "random", { get: () => chance = (chance + 0.3) % 1 });
  world.busy(a);
  await world.tick(14_999);
  assert.deepEqual(world.posted.filter(({ kind }) => kind === "late"), []);
  for (let turns = 0; turns < 60; turns++) await world.tick(100);
  assert.deepEqual([stream.closed, world.sources.length], [true, 2]);
  await world.idle(a);
  await world.source.connected({ connection: "c2" }, "eu:0-0");
  await world.source.event(comment("c1"), "eu:1-0");
  for (const { events, connection } of [a, b, c]) assert.deepEqual([events, connection.state], [["c1"], "open"]);
});

test("a leader that stands still is noticed sooner by a tab that is opened, or looked at", async (t) => {
  for (const how of ["opened", "looked at"]) {
    await t.test(how, async (t) => {
      const { world, all: [a, b] } = await sharing(t, ["a", "b"]);
      world.busy(a);
      if (how === "opened") {
        await world.tick(1_000);
        await world.tab("c", ["live:42"]);
        await world.tick(5_000);
      } else b.page.dispatchEvent(new Event("visibilitychange"));
      await world.tick(4_500);
      await world.tick(700);
      assert.deepEqual([world.sources[0].closed, world.sources.length], [true, 2]);
      assert.equal(world.source.token, jwt({ jti: how === "opened" ? "c" : "b" }));
    });
  }
});

test("a leader that has nothing to say is not taken for one that stands still", async (t) => {
  const { world } = await sharing(t, ["a", "b"]);
  for (let times = 0; times < 20; times++) await world.tick(15_000);
  assert.deepEqual([world.sources.length, world.source.closed], [1, false]);
});

test("a hidden leader's late timers are others' to mind", async (t) => {
  const { world, all: [, b] } = await sharing(t, ["a", "b"]);
  await world.source.cut();
  assert.equal(b.connection.state, "reconnecting");
  // No timer comes to run, but the tab that is looked at.
  t.mock.timers.setTime(Date.now() + 999);
  b.page.dispatchEvent(new Event("visibilitychange"));
  await settle();
  assert.equal(world.sources.length, 1);
  t.mock.timers.setTime(Date.now() + 1);
  b.page.dispatchEvent(new Event("visibilitychange"));
  await settle();
  assert.equal(world.sources.length, 2);
  // And those who follow have timers of their own.
  await world.source.connected({ connection: "c2" });
  await world.source.cut();
  await world.tick(2_000);
  assert.deepEqual([world.sources.length, world.posted.filter(({ kind }) => kind === "late").length], [3, 3]);
});

test("a leader that is refused leaves the others to try for themselves", async (t) => {
  const { world, all: [a, b] } = await sharing(t, ["a", "b"]);
  await world.source.block("bye", { reason: "token", retry_ms: 0 });
  await world.tick(2_000);
  await world.source.fail(problem(401, "the token has ended"));
  assert.deepEqual([a.states.at(-1), world.sources.length, world.source.token], [401, 3, jwt({ jti: "b" })]);
  await world.source.connected({ connection: "c2" }, "eu:0-0");
  assert.deepEqual([b.connection.state, a.connection.state], ["open", "closed"]);
  a.page.dispatchEvent(new Event("pagehide"));
  a.page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  await settle();
  assert.deepEqual([a.connection.state, world.channels.size], ["closed", 1]);
  // Nor does it hear by another one's token what its own does not give.
  a.connection.reconnect();
  await settle();
  assert.deepEqual([a.connection.state, world.sources.length, world.source.token], ["reconnecting", 4, jwt({ jti: "a" })]);
});

test("what is too much for one stream is no reason to refuse a tab", async (t) => {
  const { world, all: [a] } = await sharing(t, ["a"]);
  world.answer = ({ path, body }) => path.endsWith("/topics") && body.add.includes("chat:b") && problem(400, "at most 2 topics");
  const b = await world.tab("b", ["live:42", "chat:b"]);
  assert.deepEqual([world.sources.length, asked(world.source), world.source.token], [2, ["chat:b", "live:42"], jwt({ jti: "b" })]);
  await world.source.connected({ connection: "c2" });
  assert.deepEqual([a.connection.state, b.connection.state], ["open", "open"]);
  // What is refused for itself is.
  const c = await world.tab("c", ["live:42"]);
  world.answer = ({ path, body }) => path.endsWith("/topics") && body.add.includes("chat:x") && problem(403, "not yours");
  a.follow("chat:x");
  await settle();
  assert.deepEqual([a.subscriptions.get("chat:x").state, a.connection.state, c.connection.state], ["closed", "open", "open"]);
  assert.deepEqual(world.sources.map(({ closed }) => closed), [false, false]);
});

test("a tab whose token ends renews it as it would alone, and hears nothing more where it cannot", async (t) => {
  let given = 0;
  const { world } = await sharing(t, ["a"]), claims = { exp: T / 1_000 + 60 };
  const text = await world.tab("text", ["live:42"], { claims });
  const asks = await world.tab("asks", ["live:42"], { token: async () => jwt({ jti: `asks ${++given}`, exp: (Date.now() + 60_000) / 1_000 }) });
  assert.deepEqual([world.sources.length, given], [1, 1]);
  await world.source.block("token", { expires_at: 1 });
  assert.equal(given, 2);
  world.answer = ({ path }) => path.endsWith("/events") && json({ events: [{ ...comment("c1"), position: "eu:1-0" }], more: false });
  t.mock.timers.setTime(T + 70_001);
  await world.sources[0].event(comment("c1"), "eu:1-0");
  await settle();
  assert.deepEqual([given, text.events, asks.events], [3, [], ["c1"]]);
  assert.deepEqual([world.sources.length, world.source.token], [2, jwt({ jti: "text", ...claims })]);
  await world.source.fail(problem(401, "the token has ended"));
  assert.equal(text.connection.state, "closed");
  await world.sources[0].event(comment("c2"), "eu:2-0");
  assert.deepEqual([asks.events.at(-1), asks.connection.state, world.sources.length], ["c2", "open", 2]);
});

test("a tab whose next token has other rights shares with others of these", async (t) => {
  let claims = {};
  const world = tabs(t), token = async () => jwt({ jti: "a", ...claims });
  const a = await world.tab("a", ["live:42"], { token });
  await world.source.connected({}, "eu:1-0");
  const b = await world.tab("b", ["live:42"]);
  claims = { sub: "bo" };
  await world.source.block("token", { expires_at: 1 });
  await settle();
  // Each has its own then, and goes on where it was.
  assert.deepEqual([world.groups().size, world.sources.map(({ closed }) => closed)], [2, [true, false, false]]);
  for (const source of world.sources.slice(1)) assert.equal(source.query.get("last_event_id"), "eu:1-0");
  assert.deepEqual([a.gaps, b.gaps, a.connection.state, b.connection.state], [[], [], "reconnecting", "reconnecting"]);
});

test("without a token polls are not shared, since no server says whose they are", async (t) => {
  const world = tabs(t);
  await world.tab("a", ["live:42"], { token: undefined });
  await world.source.connected({ heartbeat_ms: 1_000 });
  await world.source.cut();
  await world.tick(1_000);
  await world.tick(6_000);
  await world.poll.answer([comment("c1")], "eu:1-0@1000");
  const b = await world.tab("b", ["live:42"], { token: undefined });
  assert.deepEqual([b.connection.state, b.events, world.sources.length], ["connecting", [], 3]);
});

test("polls are shared, too", async (t) => {
  const world = tabs(t), a = await world.tab("a", ["live:42"]);
  const b = await world.tab("b", ["live:42", "chat:b"]);
  await world.tick(6_000);
  assert.deepEqual([world.sources.length, world.polls.length], [1, 1]);
  await world.poll.answer([comment("c1"), comment("c2", "chat:b")], "eu:2-0@1000");
  assert.deepEqual([a.events, b.events, a.states, b.states], [["c1"], ["c1", "c2"], ["open"], ["open"]]);
  const c = await world.tab("c", ["live:42"]);
  assert.deepEqual([c.connection.state, world.polls.length], ["open", 2]);
});
