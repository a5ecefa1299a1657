// Seven tabs of a page in Chromium, over plain HTTP/1.1, of which it gives an origin six connections: `node --test tests/packages/`.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { PATIENCE_MS, folder, here, startChromium, startNode, until } from "./support.mjs";

const TABS = 7;

/** In the page: what it heard. */
const page = (options) => `<!doctype html><title>tab</title><script type="module">
import { connect } from "/fanfare.js";
const number = new URLSearchParams(location.search).get("tab"), connection = connect(undefined, ${options});
const heard = window.heard = { texts: [], gaps: [], states: [] };
connection.on("event", ({ type, topic, data }) => { if (type === "comment") heard.texts.push(topic + " " + data.text); });
connection.on("gap", (gap) => heard.gaps.push(gap));
connection.on("state", ({ state }) => heard.states.push(state));
window.subscriptions = ["live:1", "chat:" + number].map((topic) => connection.subscribe(topic));
window.open = () => window.subscriptions.every(({ state }) => state === "open");
</script>`;

/** A browser's own storage and cookies, in which the node has a page at /tab. */
async function startContext(browser, node, options) {
  const context = await browser.newContext();
  await context.route(`${node.url}/tab?*`, (route) => route.fulfill({ contentType: "text/html", body: page(options) }));
  // As for the tests of the demo page: to try a change without a build.
  if (process.env.FANFARE_WEB) {
    const packaged = (route) => here(`packages/js${new URL(route.request().url()).pathname}`);
    await context.route(`${node.url}/fanfare**`, (route) => route.fulfill({ path: packaged(route) }));
  }
  return context;
}

const isOpen = (page) => page.evaluate(() => window.open?.() || JSON.stringify(window.heard));

test("seven tabs have one stream, and when the leader is killed, frozen or closed the others miss nothing", { timeout: 4 * PATIENCE_MS }, async (t) => {
  const node = await startNode(t), browser = await startChromium(t), context = await startContext(browser, node, '{ member: "ana" }');
  const complaints = [], leaders = [];
  const tabs = await Promise.all(Array.from({ length: TABS }, async (_, number) => {
    const page = await context.newPage(), tab = { number, page, devtools: await context.newCDPSession(page) };
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => { if (new URL(request.url()).pathname === "/v1/events") leaders.push(tab); });
    await page.goto(`${node.url}/tab?tab=${number}`);
    return tab;
  }));
  const streams = async () => {
    const metrics = await fetch(`${node.internal}/metrics`).then((response) => response.text());
    return Number(/^fanfare_connections\{kind="stream",shard="0"\} (\d+)$/m.exec(metrics)?.[1]);
  };
  const one = (asks) => until(`one stream, and ${asks} tabs that asked for one`, async () => {
    const seen = [await streams(), leaders.length];
    return (seen[0] === 1 && seen[1] === asks) || seen;
  });
  const heard = (tab) => tab.page.evaluate(() => window.heard);
  const sent = [];
  const publish = async (topic) => {
    sent.push(`${topic} ${sent.length}`);
    await node.publish(topic, `${sent.length - 1}`);
  };
  /** Each of them has heard all of its topics, once and in their order. */
  const complete = async (living) => {
    for (const tab of living) {
      const wanted = (topic) => sent.filter((text) => text.startsWith(`${topic} `));
      for (const topic of ["live:1", `chat:${tab.number}`]) {
        const of = async () => (await heard(tab)).texts.filter((text) => text.startsWith(`${topic} `));
        await until(`tab ${tab.number} to hear of ${topic}`, async () => (await of()).length >= wanted(topic).length || of());
        assert.deepEqual(await of(), wanted(topic));
      }
      assert.deepEqual((await heard(tab)).gaps, []);
    }
  };
  const crowd = async () => {
    for (let number = 0; number < 5 * TABS; number++) await publish(number % 2 ? "live:1" : `chat:${number % TABS}`);
  };

  for (const tab of tabs) await until("each tab to be live", () => isOpen(tab.page));
  await one(1);
  await crowd();
  await complete(tabs);

  // In the middle of what is published the leader's process dies.
  const [killed] = leaders, others = tabs.filter((tab) => tab !== killed);
  const gone = once(killed.page, "crash"), more = crowd();
  killed.devtools.send("Page.crash").catch(() => {});
  await Promise.all([gone, more]);
  await crowd();
  await complete(others);
  await one(2);

  // The next one's page is frozen, as far as a page can tell (Chromium freezes hidden ones, and here all are seen), and thawed.
  const frozen = leaders[1];
  await Promise.all([frozen.page.evaluate(() => { document.dispatchEvent(new Event("freeze")); }), crowd()]);
  await complete(others.filter((tab) => tab !== frozen));
  await one(3);
  assert.notEqual(leaders[2], frozen);
  await Promise.all([frozen.page.evaluate(() => { document.dispatchEvent(new Event("resume")); }), crowd()]);
  await complete(others);

  // The third one's is closed.
  await Promise.all([leaders[2].page.close(), crowd()]);
  await crowd();
  const rest = others.filter((tab) => tab !== leaders[2]);
  await complete(rest);
  for (const tab of rest) assert.equal(await isOpen(tab.page), true);
  await one(4);
  assert.deepEqual(complaints, []);
});

test("tabs share by a member's tokens, which stand in no URL, or cookies, and not with another member's", { timeout: 2 * PATIENCE_MS }, async (t) => {
  const secret = "0123456789abcdef0123456789abcdef", key = join(await folder(t), "secret");
  await writeFile(key, secret);
  const node = await startNode(t, ["--auth", "jwt", "--jwt-key-file", key, "--jwt-cookie", "session"]);
  const browser = await startChromium(t);
  let minted = 0;
  const mint = (sub) => {
    const claims = { sub, jti: `token-${++minted}`, exp: Math.floor(Date.now() / 1_000) + 600, fanfare: { subscribe: ["live:*", "chat:*"] } };
    const signed = [{ alg: "HS256", typ: "JWT" }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  };
  const urls = [], streams = [];
  /** Opens one. */
  const tab = async (context, number) => {
    const page = await context.newPage();
    page.on("request", (request) => {
      urls.push(request.url());
      if (new URL(request.url()).pathname === "/v1/events") streams.push(number);
    });
    await page.goto(`${node.url}/tab?tab=${number}`);
    await until(`tab ${number} to be live`, () => isOpen(page));
  };

  const byToken = await startContext(browser, node, '{ token: async () => (await fetch("/token")).text() }');
  let member = "ana";
  await byToken.route(`${node.url}/token`, (route) => route.fulfill({ body: mint(member) }));
  await tab(byToken, 1);
  await tab(byToken, 2);
  assert.deepEqual([streams, minted], [[1], 2]);
  member = "bo";
  await tab(byToken, 3);
  assert.deepEqual(streams, [1, 3]);

  // A page cannot read such a cookie, and knows no member.
  const byCookie = await startContext(browser, node, "{}");
  const signIn = (member) => byCookie.addCookies([{ name: "session", value: mint(member), url: node.url, httpOnly: true }]);
  await signIn("ana");
  await tab(byCookie, 4);
  await tab(byCookie, 5);
  assert.deepEqual(streams, [1, 3, 4]);
  await signIn("bo");
  await tab(byCookie, 6);
  assert.deepEqual(streams, [1, 3, 4, 6]);
  assert.ok(urls.length > 20, `${urls.length} requests`);
  // How each token begins.
  assert.deepEqual(urls.filter((url) => url.includes("eyJ")), []);
});
