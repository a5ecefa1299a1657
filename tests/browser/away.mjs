// A page's plain EventSources while the node behind the proxy is away: they come back by themselves, from another origin, too.
//
//   node away.mjs BROWSER BASE_URL PORT
//
// BROWSER is chromium or firefox, PORT where the page is served, which the node allows by --cors-origin http://127.0.0.1:PORT.
// Says "connected" when its streams are open, "told" when the proxy told each of them to come again, "back" when they are open
// anew, and "ok" when an event of topic live:42 came to each.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const STEP_TIMEOUT_MS = 100_000;

const [browserName, base, port] = process.argv.slice(2);
if (!port) {
  console.error("usage: node away.mjs chromium|firefox BASE_URL PORT");
  process.exit(1);
}

async function chromium() {
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  return { goto: (url) => page.goto(url), evaluate: (expression) => page.evaluate(expression), close: () => browser.close() };
}

/** In the page: two streams, with cookies and without, and what came by each. */
const PAGE = `<!doctype html><title>away</title><script>
window.streams = [false, true].map((withCredentials) => {
  const stream = { opened: 0, told: 0, events: 0 };
  const source = new EventSource("${base}/v1/events?topic=live:42", { withCredentials });
  source.addEventListener("connected", () => stream.opened++);
  source.addEventListener("bye", ({ data }) => { if (JSON.parse(data).reason === "busy") stream.told++; });
  source.onmessage = ({ data }) => { if (JSON.parse(data).type === "news") stream.events++; };
  stream.state = () => source.readyState;
  return stream;
});
</script>`;

async function main() {
  const server = createServer((request, response) => response.setHeader("Content-Type", "text/html").end(request.url === "/" ? PAGE : ""));
  await once(server.listen(Number(port), "127.0.0.1"), "listening");
  const browser = await (browserName === "firefox" ? (await import("./firefox.mjs")).launch() : chromium());
  const streams = () => browser.evaluate("window.streams.map((stream) => ({ ...stream, state: stream.state() }))");
  const all = async (word, holds) => {
    const deadline = Date.now() + STEP_TIMEOUT_MS;
    let seen;
    while (!(seen = await streams()).every(holds)) {
      assert.ok(seen.every(({ state }) => state !== 2), `an EventSource gave up for good before "${word}": ${JSON.stringify(seen)}`);
      assert.ok(Date.now() < deadline, `waited ${STEP_TIMEOUT_MS} ms for "${word}"; last seen: ${JSON.stringify(seen)}`);
      await sleep(50);
    }
    console.log(word);
    return seen;
  };
  try {
    await browser.goto(`http://127.0.0.1:${port}/`);
    const before = await all("connected", ({ opened }) => opened > 0);
    // Twice, so that what they were told brought them back once.
    await all("told", ({ told }) => told > 1);
    await all("back", ({ opened }, number) => opened > before[number].opened);
    await all("ok", ({ events }) => events > 0);
  } catch (problem) {
    console.error(`FAIL ${problem.message}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
    server.close();
    server.closeAllConnections();
  }
}

await main();
