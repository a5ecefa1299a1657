// Drives the demo page through a proxy that speaks TLS and HTTP/2: a like travels, and many streams share a connection.
//
//   npm ci && node behind_proxy.mjs https://127.0.0.1:8443
//
// CHROMIUM names another browser than /usr/bin/chromium. Exits 0 when all holds, 1 with what did not.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { chromium } from "playwright-core";

const STEP_TIMEOUT_MS = 100_000;
const OVERALL_TIMEOUT_MS = 600_000;
// More than the six connections that a browser opens to one host with HTTP/1.1.
const STREAMS = 20;

const base = process.argv[2]?.replace(/\/+$/, "");
if (!base) {
  console.error("usage: node behind_proxy.mjs BASE_URL");
  process.exit(1);
}
const video = `proxy-${randomUUID().slice(0, 8)}`;

async function viewer(browser, member) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  context.setDefaultTimeout(STEP_TIMEOUT_MS);
  const page = await context.newPage();
  await page.goto(`${base}/?video=${video}&member=${member}`);
  await page.locator('#state[data-state="live"]').waitFor();
  return page;
}

/** Opens many streams of a topic whose viewers are not counted, publishes one event after the other, and gives what each stream got. */
const followMany = (page, streams) => page.evaluate(async ([topic, streams, limit]) => {
  const sources = Array.from({ length: streams }, () => new EventSource(`/v1/events?topic=${topic}`));
  const arrives = (source, type) => new Promise((resolve, reject) => {
    source.addEventListener(type, (message) => resolve(JSON.parse(message.data)), { once: true });
    setTimeout(() => reject(new Error(`no ${type} event in ${limit} ms`)), limit);
  });
  try {
    await Promise.all(sources.map((source) => arrives(source, "connected")));
    const seen = [];
    for (let number = 0; number < 3; number++) {
      const all = sources.map((source) => arrives(source, "message"));
      const answer = await fetch(`/v1/topics/${topic}/events`, { method: "POST", body: JSON.stringify({ type: "news", data: number }) });
      if (answer.status !== 202) throw new Error(`publishing: ${answer.status}`);
      // The next one is published only once every stream has this one, so none of them can wait for a full buffer.
      seen.push((await Promise.all(all)).map((event) => event.data));
    }
    return seen;
  } finally {
    for (const source of sources) source.close();
  }
}, [`chat:many-${video}`, streams, STEP_TIMEOUT_MS]);

async function main() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const overall = setTimeout(() => {
    console.error(`behind_proxy: timed out after ${OVERALL_TIMEOUT_MS} ms`);
    browser.close().finally(() => process.exit(1));
  }, OVERALL_TIMEOUT_MS);
  try {
    const [ana, bo] = await Promise.all([viewer(browser, "ana"), viewer(browser, "bo")]);
    const protocol = await ana.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
    assert.equal(protocol, "h2", "the page came by HTTP/2");
    const heart = bo.locator('.heart[data-reaction="like"]').first().waitFor({ state: "attached" });
    await ana.locator("#like").click();
    await heart;
    await bo.locator('#count[data-value="1"]').waitFor();
    console.log("ok   a like in one tab is seen in the other");
    const seen = await followMany(bo, STREAMS);
    assert.deepEqual(seen, [0, 1, 2].map((number) => Array(STREAMS).fill(number)));
    console.log(`ok   ${STREAMS} streams on one connection, event by event`);
  } catch (problem) {
    console.error(`FAIL ${problem.message}`);
    process.exitCode = 1;
  } finally {
    clearTimeout(overall);
    await browser.close();
  }
}

await main();
