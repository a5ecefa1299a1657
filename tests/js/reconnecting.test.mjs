// How the client comes back, and when it does not: `node --test tests/js/`.
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { browser, json, problem, settle } from "./fakes.mjs";

const waits = (states) => states.filter(({ retryMs }) => retryMs !== undefined).map(({ retryMs }) => retryMs);

test("the first request has the topics, the member and no more", async (t) => {
  const world = browser(t);
  await world.start({ topics: ["live:42", "chat:a%20b"], member: "ana b" });
  assert.equal(world.source.url.pathname, "/v1/events");
  assert.deepEqual([...world.source.query], [["topic", "live:42"], ["topic", "chat:a%20b"], ["member", "ana b"]]);
  assert.equal(world.source.init.credentials, "same-origin");
});

test("a base path is kept", async (t) => {
  const world = browser(t);
  await world.start({ url: "http://fanfare.test/live/" });
  assert.equal(world.source.url.pathname, "/live/v1/events");
});

test("the longest waits double from 2 s and stay at 30 s, the shortest are none", async (t) => {
  for (const [random, expected] of [[0, [0, 0, 0, 0, 0, 0]], [1, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]]]) {
    await t.test(`chance ${random}`, async (t) => {
      const world = browser(t);
      const { states } = await world.start();
      world.random = random;
      for (let cut = 1; cut <= 6; cut++) {
        await world.source.cut();
        await world.tick(30_000);
        assert.equal(world.sources.length, cut + 1);
      }
      assert.deepEqual(waits(states), expected);
    });
  }
});

test("clients that were cut together come back apart", async (t) => {
  const world = browser(t);
  const all = [];
  for (const random of [0.1, 0.7]) {
    const { states } = await world.open();
    world.random = random;
    await world.source.cut();
    all.push(...waits(states));
  }
  assert.deepEqual(all, [200, 1_400]);
});

test("nothing is asked before the wait is over", async (t) => {
  const world = browser(t);
  const { stream } = await world.open();
  await world.source.cut();
  assert.equal(stream.state, "reconnecting");
  await world.tick(999);
  assert.equal(world.sources.length, 1);
  await world.tick(1);
  assert.equal(world.sources.length, 2);
  await world.source.connected();
  assert.equal(stream.state, "open");
});

test("a stream that lived makes the next wait short again, one that fell over at once does not", async (t) => {
  const world = browser(t);
  const { states } = await world.open();
  world.random = 1;
  for (const lived of [100, 100, 10_000]) {
    await world.tick(lived);
    await world.source.cut();
    await world.tick(30_000);
    await world.source.connected();
  }
  assert.deepEqual(waits(states), [2_000, 4_000, 2_000]);
});

test("a server that takes the request and says nothing is given up", async (t) => {
  const world = browser(t);
  const { states } = await world.start();
  const [first] = world.sources;
  // Nor to anything else, so that nothing says that a stream is held back.
  world.answer = ({ path }) => path === "/v1/time" ? new Promise(() => {}) : undefined;
  await world.tick(6_000);
  await world.tick(13_999);
  assert.equal(first.closed, false);
  await world.tick(1);
  assert.equal(first.closed, true);
  assert.match(states.at(-1).detail, /in time/);
  await world.tick(2_000);
  assert.deepEqual([world.sources.length, world.polls.length], [2, 0]);
});

test("it resumes after the last id line, also over later events without one", async (t) => {
  const world = browser(t);
  await world.open();
  await world.source.event({ type: "comment", id: "a" }, "eu:7-0");
  await world.source.event({ type: "like", id: "b", count: 1 });
  await world.source.cut();
  await world.tick(2_000);
  assert.equal(world.source.query.get("last_event_id"), "eu:7-0");
  // Cut again before anything came: the place is not forgotten.
  await world.source.cut();
  await world.tick(30_000);
  assert.equal(world.source.query.get("last_event_id"), "eu:7-0");
});

test("cut before its first comment, it resumes from where the stream began", async (t) => {
  const world = browser(t);
  const { stream } = await world.start();
  const got = [];
  stream.on("event", ({ type, id }) => got.push(`${type} ${id}`));
  await world.source.connected({}, "eu:5-0");
  await world.source.event({ type: "like", id: "b", count: 1 });
  await world.source.cut();
  await world.tick(2_000);
  assert.equal(world.source.query.get("last_event_id"), "eu:5-0");
  // A like has no place of its own, so its id is not kept as that of a repeat.
  await world.source.connected({}, "eu:5-0");
  await world.source.event({ type: "like", id: "b", count: 1 });
  await world.source.event({ type: "comment", id: "c" }, "eu:6-1");
  assert.deepEqual(got, ["like b", "like b", "comment c"]);
  await world.source.cut();
  await world.tick(30_000);
  assert.equal(world.source.query.get("last_event_id"), "eu:6-1");
});

test("bye closes the stream and comes back when the server said, not before", async (t) => {
  const world = browser(t);
  const { stream, states } = await world.open();
  const byes = [];
  stream.on("bye", (bye) => byes.push(bye));
  const [first] = world.sources;
  await first.block("bye", { reason: "drain", retry_ms: 2_500 });
  assert.equal(first.closed, true);
  assert.deepEqual(byes, [{ reason: "drain", retry_ms: 2_500 }]);
  assert.deepEqual(waits(states), [2_500]);
  await world.tick(2_499);
  assert.equal(world.sources.length, 1);
  await world.tick(1);
  assert.equal(world.sources.length, 2);
});

test("a server that stays busy is asked less and less often", async (t) => {
  const world = browser(t);
  const { states } = await world.start();
  world.random = 1;
  for (let bye = 0; bye < 5; bye++) {
    await world.source.block("bye", { reason: "busy", retry_ms: 3_000 });
    await world.tick(30_000);
  }
  assert.deepEqual(waits(states), [3_000, 4_000, 8_000, 16_000, 30_000]);
});

test("being online again ends a backoff, but not the wait that the server asked for", async (t) => {
  const world = browser(t);
  await world.start();
  world.random = 0.9;
  for (let cut = 0; cut < 4; cut++) {
    await world.source.cut();
    await world.tick(30_000);
  }
  await world.source.cut();
  world.page.dispatchEvent(new Event("online"));
  await world.tick(1_800);
  assert.equal(world.sources.length, 6);
  await world.source.block("bye", { reason: "busy", retry_ms: 20_000 });
  await world.tick(5_000);
  world.page.dispatchEvent(new Event("online"));
  await world.tick(14_999);
  assert.equal(world.sources.length, 6);
  await world.tick(1);
  assert.equal(world.sources.length, 7);
});

test("a page from the back-forward cache connects anew, one that was just loaded does not", async (t) => {
  const world = browser(t);
  await world.open();
  world.page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: false }));
  await world.tick(2_000);
  assert.equal(world.sources.length, 1);
  world.page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  await world.tick(2_000);
  assert.equal(world.sources.length, 2);
});

test("a stream that is silent for two heartbeats is given up, one whose heartbeats come is not", async (t) => {
  const world = browser(t);
  const { states } = await world.start();
  await world.source.connected({ heartbeat_ms: 20_000 });
  for (let beat = 0; beat < 10; beat++) {
    await world.tick(25_000);
    await world.source.bytes(":\n");
  }
  await world.tick(39_999);
  assert.equal(world.source.closed, false);
  await world.tick(1);
  assert.deepEqual([world.source.closed, states.at(-1).state], [true, "reconnecting"]);
  assert.match(states.at(-1).detail, /silent/);
  await world.tick(2_000);
  assert.equal(world.sources.length, 2);
});

test("a page that is seen again after a long silence looks at once", async (t) => {
  const world = browser(t);
  await world.start();
  await world.source.connected({ heartbeat_ms: 20_000 });
  // The device slept: its clock went on, its timers did not.
  t.mock.timers.setTime(Date.now() + 40_000);
  world.page.dispatchEvent(new Event("visibilitychange"));
  await settle();
  assert.equal(world.source.closed, true);
});

test("the retry: line says when to come back, in place of chance, the first time", async (t) => {
  const world = browser(t);
  const { states } = await world.start();
  world.random = 0;
  await world.source.connected({}, "eu:1-0", 1_700);
  await world.source.cut();
  await world.tick(1_699);
  assert.equal(world.sources.length, 1);
  await world.tick(1);
  world.random = 1;
  await world.source.cut();
  assert.deepEqual(waits(states), [1_700, 4_000]);
});

test("403 without topics is refused with the server's words, and nothing is asked again", async (t) => {
  const world = browser(t);
  const { stream, states } = await world.start({ topics: [] });
  assert.equal(new Headers(world.source.init.headers).get("Accept"), "text/event-stream");
  await world.source.fail(problem(403, "this page's origin is not allowed"));
  assert.deepEqual(states.at(-1), { state: "closed", status: 403, detail: "this page's origin is not allowed" });
  await world.tick(3_600_000);
  world.page.dispatchEvent(new Event("online"));
  await world.tick(3_600_000);
  assert.deepEqual([world.sources.length, world.requests.length, stream.state], [1, 0, "closed"]);

  // Other topics are another question.
  world.add("live:42");
  await settle();
  assert.equal(world.sources.length, 2);
  assert.deepEqual(world.source.query.getAll("topic"), ["live:42"]);
  await world.source.connected();
  assert.equal(stream.state, "open");
});

test("what passes is tried again, not before Retry-After", async (t) => {
  const world = browser(t);
  const { stream, states } = await world.start();
  await world.source.fail(problem(503, "draining", { "Retry-After": "7" }));
  assert.deepEqual([stream.state, waits(states), states.at(-1).detail], ["reconnecting", [7_000], "draining"]);
  await world.tick(7_000);
  assert.equal(world.sources.length, 2);
  await world.source.cut();
  assert.deepEqual(waits(states), [7_000, 2_000], "half of 4 s, by chance");
});

test("an answer that is no stream may be some network's own page, and passes", async (t) => {
  const world = browser(t);
  const { stream } = await world.start();
  await world.source.fail(new Response("<p>Sign in</p>", { headers: { "Content-Type": "text/html" } }));
  assert.equal(stream.state, "reconnecting");
  await world.tick(2_000);
  assert.equal(world.sources.length, 2);
});

test("closed is closed, whatever it was waiting for", async (t) => {
  for (const when of ["connecting", "open", "waiting", "told of it"]) {
    await t.test(when, async (t) => {
      const world = browser(t);
      const { stream } = await world.start();
      if (when !== "connecting") await world.source.connected();
      if (when === "waiting") await world.source.cut();
      if (when === "told of it") stream.on("state", () => stream.close());
      if (when === "told of it") await world.source.fail(problem(503, "draining"));
      stream.close();
      const asked = world.requests.length;
      assert.equal(stream.state, "closed");
      assert.throws(() => world.add("chat:1"), /closed/);
      stream.reconnect();
      world.page.dispatchEvent(new Event("online"));
      await world.tick(600_000);
      assert.deepEqual([world.sources.length, world.requests.length, stream.state], [1, asked, "closed"]);
      assert.equal(world.source.closed, true);
      for (const name of ["online", "pagehide", "pageshow", "visibilitychange"]) {
        assert.deepEqual(getEventListeners(world.page, name), [], "the page would keep it in memory");
      }
    });
  }
});

test("closed by the handler of connected, it sends nothing more", async (t) => {
  const world = browser(t);
  const { stream } = await world.start();
  stream.on("connected", () => {
    stream.close();
    assert.throws(() => world.add("chat:1"), /closed/);
  });
  await world.source.connected();
  await world.tick(60_000);
  assert.deepEqual([world.requests.length, stream.state], [0, "closed"]);
});

test("a handler that throws stops neither the others nor the stream", async (t) => {
  const world = browser(t);
  const { stream, events } = await world.start();
  const mistake = new Error("the handler's");
  stream.on("connected", () => { throw mistake; });
  stream.on("event", () => { throw mistake; });
  await world.source.connected();
  await world.source.event({ type: "like", id: "a", count: 1 });
  world.add("chat:1");
  await settle();
  assert.deepEqual(world.mistakes, [mistake, mistake]);
  assert.deepEqual([events.length, world.posts("/topics").length], [1, 1]);
});

// ---- tokens

test("a token goes with the stream's request, and with others in a header", async (t) => {
  const world = browser(t);
  const { stream } = await world.open({ token: "first", withCredentials: true });
  assert.equal(world.source.token, "first");
  assert.equal(world.source.url.href.includes("first"), false);
  assert.equal(world.source.init.credentials, "include");
  world.add("chat:1");
  await settle();
  assert.equal(world.requests[0].headers.authorization, "Bearer first");
  assert.equal(world.requests[0].credentials, "include");
});

test("a token event renews the open stream, and goes on until the server has the new one", async (t) => {
  const world = browser(t);
  let given = 0;
  const { stream } = await world.open({ token: async () => `token-${++given}` });
  assert.equal(world.source.token, "token-1");
  const answers = [problem(503, "busy", { "Retry-After": "5" }), undefined];
  world.answer = ({ path }) => path.endsWith("/token") ? answers.shift() : undefined;
  await world.source.block("token", { expires_at: 1 });
  await settle();
  await world.tick(4_999);
  assert.equal(world.posts("/token").length, 1);
  await world.tick(1);
  const sent = world.posts("/v1/connections/c1/token").map(({ body, headers }) => [body.token, headers.authorization]);
  assert.deepEqual(sent, [["token-2", "Bearer token-2"], ["token-3", "Bearer token-3"]]);
  await world.tick(60_000);
  assert.deepEqual([world.posts("/token").length, world.sources.length, stream.state], [2, 1, "open"]);
  await world.source.cut();
  await world.tick(2_000);
  assert.equal(world.source.token, "token-3", "a good token is kept");
  assert.equal(given, 3);
});

test("a renewal that is refused ends in a new stream with the new token", async (t) => {
  const world = browser(t);
  let given = 0;
  await world.open({ token: () => `token-${++given}` });
  world.answer = () => problem(403, "another member's token");
  await world.source.block("token", { expires_at: 1 });
  await settle();
  await world.tick(2_000);
  assert.equal(world.sources.length, 2);
  assert.equal(world.source.token, "token-2");
});

test("bye because of the token asks for a fresh one before it comes back", async (t) => {
  const world = browser(t);
  let given = 0;
  await world.open({ token: async () => `token-${++given}` });
  await world.source.block("bye", { reason: "token", retry_ms: 1_500 });
  await settle();
  assert.equal(given, 1, "not while it waits: the token would age");
  await world.tick(1_500);
  assert.equal(world.source.token, "token-2");
});

test("bye for another reason keeps the token", async (t) => {
  const world = browser(t);
  let given = 0;
  await world.open({ token: async () => `token-${++given}` });
  await world.source.block("bye", { reason: "drain", retry_ms: 1_500 });
  await world.tick(1_500);
  assert.equal(world.source.token, "token-1");
});

test("who needs a token while one is asked for gets that one", async (t) => {
  const world = browser(t);
  const asked = [];
  const { stream } = await world.start({ token: () => new Promise((resolve) => asked.push(resolve)) });
  stream.reconnect();
  await settle();
  assert.equal(asked.length, 1);
  asked[0]("shared");
  await settle();
  assert.deepEqual(world.sources.map(({ token }) => token), ["shared"]);
});

test("a token that cannot be had is asked for again after a while", async (t) => {
  const world = browser(t);
  let given = 0;
  const token = async () => ++given === 1 ? Promise.reject(new Error("offline")) : "good";
  const { states } = await world.start({ token });
  assert.equal(world.sources.length, 0);
  assert.match(states.at(-1).detail, /offline/);
  await world.tick(1_000);
  assert.equal(world.source.token, "good");
});

test("after 401 one fresh token is tried; if that one is refused too, so is the stream", async (t) => {
  const world = browser(t);
  let given = 0;
  const { stream, states } = await world.start({ token: async () => `token-${++given}` });
  await world.source.fail(problem(401, "the token has expired"));
  await settle();
  await world.tick(2_000);
  assert.equal(world.source.token, "token-2");
  await world.source.fail(problem(401, "the token has expired"));
  await settle();
  assert.equal(states.at(-1).detail, "the token has expired");
  await world.tick(3_600_000);
  assert.deepEqual([stream.state, world.sources.length, given], ["closed", 2, 2]);
  // The person signs in again.
  stream.reconnect();
  await settle();
  await world.source.connected();
  assert.equal(stream.state, "open");
});

test("a token that was taken may end like the one before", async (t) => {
  const world = browser(t);
  let given = 0;
  const { stream } = await world.start({ token: async () => `token-${++given}` });
  for (let ended = 1; ended <= 3; ended++) {
    await world.source.fail(problem(401, "the token has expired"));
    await world.tick(30_000);
    assert.equal(world.source.token, `token-${ended + 1}`);
    await world.source.connected();
    assert.equal(stream.state, "open");
    await world.source.cut();
    await world.tick(30_000);
  }
});

test("with a token that is just text, 401 is the end at once", async (t) => {
  const world = browser(t);
  const { stream } = await world.start({ token: "old" });
  await world.source.fail(json({ title: "Unauthorized" }, 401));
  await world.tick(60_000);
  assert.deepEqual([stream.state, world.sources.length], ["closed", 1]);
});
