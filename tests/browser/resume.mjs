// Resuming in headless Chromium, by a plain EventSource and by fanfare.js: connections are dropped by a proxy in between,
// topics are added and removed, and comments that history forgot are told of.
//
//   npm ci && node resume.mjs http://127.0.0.1:8080
//
// The server keeps 50 comments a topic. CHROMIUM names another browser than /usr/bin/chromium. Exits 0 when all holds, 1
// with what did not.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createServer, connect } from "node:net";
import { chromium } from "playwright-core";

const STEP_TIMEOUT_MS = 100_000;
const OVERALL_TIMEOUT_MS = 600_000;
// More than history keeps, and than the server has in memory of a topic that was just watched.
const FORGOTTEN = 400;

const base = process.argv[2]?.replace(/\/+$/, "");
if (!base) {
  console.error("usage: node resume.mjs BASE_URL");
  process.exit(1);
}
const target = new URL(base);

/** Stands between browser and server; drops all connections, or takes none, when told to. */
class Proxy {
  sockets = new Set();
  closed = false;

  async listen() {
    this.server = createServer((client) => {
      if (this.closed) return client.resetAndDestroy();
      const upstream = connect(Number(target.port), target.hostname);
      for (const [from, to] of [[client, upstream], [upstream, client]]) {
        this.sockets.add(from);
        from.on("error", () => to.destroy());
        from.on("close", () => { this.sockets.delete(from); to.destroy(); });
        from.pipe(to);
      }
    });
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  drop() { for (const socket of this.sockets) socket.resetAndDestroy(); }
  close() { this.closed = true; this.drop(); }
  open() { this.closed = false; }
}

let published = 0;
/** Publishes comments straight to the server. Gives their ids. */
async function publish(topic, count) {
  const ids = Array.from({ length: count }, () => `${topic}/${published++}`);
  const body = ids.map((id) => JSON.stringify({ topic, type: "comment", id, data: { text: "hello" } })).join("\n");
  const response = await fetch(`${base}/v1/events`, { method: "POST", body });
  assert.equal((await response.json()).accepted, count);
  return ids;
}

/** Waits for a condition, which is looked at again and again. */
async function until(what, look) {
  const deadline = Date.now() + STEP_TIMEOUT_MS;
  for (;;) {
    const seen = await look();
    if (seen === true) return;
    if (Date.now() > deadline) assert.fail(`waited for ${what}; last seen: ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const once = (list) => [...new Set(list)];
const log = (page) => page.evaluate(() => window.log);
const state = (page, name) => page.evaluate((name) => window.log[name].length, name);
const got = async (page, topic) => (await log(page)).ids.filter((id) => id.startsWith(`${topic}/`));

/** Both ways to watch: each opens a stream that keeps what it hears in `window.log`. */
const watchers = {
  async "a plain EventSource"(page, topics) {
    await page.evaluate((topics) => {
      const log = window.log = { ids: [], gaps: [], connections: [] };
      const source = window.source = new EventSource(`/v1/events?${topics.map((topic) => `topic=${topic}`).join("&")}`);
      source.onmessage = (message) => log.ids.push(JSON.parse(message.data).id);
      source.addEventListener("gap", (message) => log.gaps.push(JSON.parse(message.data)));
      source.addEventListener("connected", (message) => log.connections.push(JSON.parse(message.data).connection));
      window.change = (add, remove) => fetch(`/v1/connections/${log.connections.at(-1)}/topics`, {
        method: "POST", body: JSON.stringify({ add, remove }),
      }).then((response) => response.status);
    }, topics);
  },
  async "fanfare.js"(page, topics) {
    await page.evaluate(async (topics) => {
      const { connect } = await import("/fanfare.js");
      const log = window.log = { ids: [], gaps: [], connections: [] };
      const stream = window.source = connect();
      const subscriptions = Object.fromEntries(topics.map((topic) => [topic, stream.subscribe(topic)]));
      stream.on("event", ({ type, id }) => { if (type === "comment") log.ids.push(id); });
      stream.on("gap", (gap) => log.gaps.push(gap));
      stream.on("connected", ({ connection }) => log.connections.push(connection));
      window.change = async (add, remove) => {
        for (const topic of add) stream.subscribe(topic);
        for (const topic of remove) subscriptions[topic].close();
        return 200;
      };
    }, topics);
  },
};

/** What holds of a stream, whoever holds it. */
async function holds(page, proxy, watch, name) {
  const topics = [1, 2].map((number) => `live:${randomUUID().slice(0, 8)}-${number}`);
  const [first, second] = topics;
  await watch(page, topics);
  await until("connected", async () => await state(page, "connections") >= 1);
  const wanted = { [first]: await publish(first, 5), [second]: await publish(second, 5) };
  const complete = async () => {
    for (const topic of topics) {
      await until(`all comments of ${topic}`, async () => once(await got(page, topic)).length === wanted[topic].length || await got(page, topic));
      assert.deepEqual(once(await got(page, topic)), wanted[topic]);
    }
  };
  await complete();

  for (let cut = 0; cut < 3; cut++) {
    const before = await state(page, "connections");
    proxy.close();
    for (const topic of topics) wanted[topic].push(...await publish(topic, 3));
    proxy.open();
    await until("the stream to come back", async () => await state(page, "connections") > before);
    for (const topic of topics) wanted[topic].push(...await publish(topic, 2));
    await complete();
  }
  assert.deepEqual((await log(page)).gaps, [], "history reaches back");
  console.log(`ok   ${name} sees each comment after its connection was dropped`);
  if (name === "fanfare.js") {
    const all = (await log(page)).ids;
    assert.deepEqual(all, once(all), "fanfare.js drops repeats by itself");
    console.log(`ok   ${name} drops repeats by itself`);
  }

  const third = `${first}-more`;
  assert.equal(await page.evaluate(([add, remove]) => window.change([add], [remove]), [third, second]), 200);
  // When the new topic's events come, the old one is gone.
  let sent = 0;
  await until("the added topic", async () => {
    if ((await got(page, third)).length > 0) return true;
    sent += (await publish(third, 1)).length;
    return sent;
  });
  const before = (await got(page, second)).length;
  await publish(second, 3);
  const mark = await publish(first, 1);
  await until("what was published last", async () => (await got(page, first)).includes(mark[0]));
  assert.equal((await got(page, second)).length, before, "nothing of a topic that was removed");
  console.log(`ok   ${name} has topics added and removed on its open stream`);

  const connections = await state(page, "connections");
  proxy.close();
  await publish(first, FORGOTTEN);
  const newest = (await publish(first, 1))[0];
  proxy.open();
  await until("the stream to come back", async () => await state(page, "connections") > connections);
  await until("the newest comment", async () => (await got(page, first)).includes(newest));
  const gaps = (await log(page)).gaps;
  assert.ok(gaps.some((gap) => gap.topic === first && /^local:\d+-\d+$/.test(gap.after)), JSON.stringify(gaps));
  console.log(`ok   ${name} is told of comments that history forgot`);
  await page.evaluate(() => window.source.close());
}

async function main() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const overall = setTimeout(() => {
    console.error(`resume: timed out after ${OVERALL_TIMEOUT_MS} ms`);
    browser.close().finally(() => process.exit(1));
  }, OVERALL_TIMEOUT_MS);
  // A store that began a moment ago tells streams of several topics that it may lack something.
  const time = async () => (await (await fetch(`${base}/v1/time`)).json()).now;
  const began = await time();
  await until("the server to be some seconds old", async () => await time() > began + 3_000);
  const proxy = new Proxy();
  await proxy.listen();
  try {
    for (const [name, watch] of Object.entries(watchers)) {
      const page = await (await browser.newContext()).newPage();
      // A page of the server's own that has no stream.
      await page.goto(`${proxy.url}/v1/time`);
      await holds(page, proxy, watch, name);
      await page.context().close();
    }
  } catch (problem) {
    console.error(`FAIL ${problem.stack}`);
    process.exitCode = 1;
  } finally {
    clearTimeout(overall);
    await browser.close();
    proxy.close();
    proxy.server.close();
  }
}

await main();
