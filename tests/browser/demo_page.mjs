// Drives the stage and its reactions in headless Chromium: two viewers of one video, and a plain EventSource in a page.
//
//   npm ci && node demo_page.mjs http://127.0.0.1:8080 DIRECTORY_FOR_SCREENSHOTS
//
// CHROMIUM names another browser than /usr/bin/chromium. Exits 0 when all holds, 1 with what did not.
import assert from "node:assert/strict";
import { join } from "node:path";
import { STEP_TIMEOUT_MS, directory, fits, run, screenshot, video, viewer } from "./support.mjs";

// Locators only, no waitForFunction: it needs eval, which the page's Content-Security-Policy forbids.
async function count(page, reaction, total) {
  const element = reaction === "all" ? "#count" : `#${reaction} .number`;
  await page.locator(`${element}[data-value="${total}"]`).waitFor().catch(async (problem) => {
    assert.fail(`${page.url()} shows ${await page.locator(element).getAttribute("data-value")} for ${reaction}, not ${total} (${problem.message})`);
  });
}

const pressed = (page, reaction, value) => page.locator(`#${reaction}[aria-pressed="${value}"]`).waitFor();
const heartsShown = async (page) => Number(await page.locator("#hearts").getAttribute("data-shown"));

const steps = {
  async "a like in one tab is seen in the other"({ ana, bo }) {
    await count(ana, "all", 0);
    await count(bo, "all", 0);
    // The like comes before bo's page knows the server's clock, and after it could not be told of it once.
    let asked = 0, release = () => {};
    const seen = new Promise((resolve) => { release = resolve; });
    await bo.route("**/v1/time", async (route) => {
      if (asked++ === 0) return route.abort();
      await seen;
      return route.continue().catch(() => {});
    });
    bo.refusals = true;
    await bo.reload();
    await bo.locator('#state[data-state="live"]').waitFor();
    await count(bo, "all", 0);
    const heart = bo.locator('.heart[data-reaction="like"]').first().waitFor({ state: "attached" });
    await ana.locator("#like").click();
    await heart;
    await count(bo, "all", 1);
    await count(bo, "like", 1);
    await count(ana, "like", 1);
    await pressed(ana, "like", true);
    await pressed(bo, "like", false);
    assert.ok(!await bo.locator("#latency").isVisible(), "no latency without the server's clock");
    release();
    await bo.locator("#latency").waitFor();
    await bo.unroute("**/v1/time");
    bo.refusals = false;
    await screenshot(bo, "seen-by-the-other");
  },

  async "all six reactions arrive, by keyboard"({ ana, bo }) {
    await bo.locator("#like").focus();
    for (const reaction of ["like", "celebrate", "support", "love", "insightful", "funny"]) {
      assert.equal(await bo.evaluate(() => document.activeElement.id), reaction, "Tab goes through the reactions in order");
      const heart = ana.locator(`.heart[data-reaction="${reaction}"]:not(.mine)`).first().waitFor({ state: "attached" });
      await bo.keyboard.press("Space");
      await heart;
      await bo.keyboard.press("Tab");
    }
    await count(ana, "all", 7);
    await count(ana, "like", 2);
    await count(ana, "funny", 1);
    await screenshot(ana, "six-reactions");
  },

  async "the same member's like counts once, from a second tab too"({ ana, bo, browser }) {
    // Bo's own of the step before come by the stream, too.
    await count(bo, "all", 7);
    await bo.locator('#hearts[data-shown="7"]').waitFor({ state: "attached" });
    const before = await heartsShown(bo);
    const again = await viewer(browser, "ana");
    await count(again, "all", 7);
    const [answer] = await Promise.all([
      again.waitForResponse((response) => response.url().endsWith("/likes") && response.request().method() === "POST"),
      again.locator("#like").click(),
    ]);
    assert.equal(answer.status(), 200, "a like that is stored already is answered 200");
    await pressed(again, "like", true);
    // What bo presses now comes after a repeat would have come, so one heart more means that none was sent.
    const heart = bo.locator('.heart[data-reaction="love"]:not(.mine)').first().waitFor({ state: "attached" });
    await ana.locator("#love").click();
    await heart;
    await count(bo, "all", 8);
    assert.equal(await heartsShown(bo), before + 1, "hearts that bo saw for one repeated and one new reaction");
    await again.context().close();
  },

  async "a like is taken back"({ ana, bo }) {
    await ana.locator("#like").click();
    await pressed(ana, "like", false);
    await count(bo, "like", 1);
    await count(bo, "all", 7);
    await count(ana, "all", 7);
  },

  async "a busy server is told of, and the press is kept and stored later"({ ana, bo }) {
    let busy = true;
    const refused = [];
    ana.refusals = true;
    await ana.route("**/likes", (route) => {
      if (route.request().method() !== "POST" || !busy) return route.continue();
      refused.push(Date.now());
      return route.fulfill({
        status: 503, contentType: "application/problem+json", headers: { "Retry-After": "3" },
        body: JSON.stringify({ title: "Service Unavailable", status: 503, detail: "The database is busy." }),
      });
    });
    await ana.locator("#support").click();
    await ana.locator("#notice", { hasText: "The database is busy." }).waitFor();
    await screenshot(ana, "busy");
    assert.equal(await ana.locator("#count").getAttribute("data-value"), "7", "the count stays as it was");
    busy = false;
    await count(bo, "support", 2);
    await pressed(ana, "support", true);
    await ana.locator("#notice").waitFor({ state: "hidden" });
    assert.ok(refused.length >= 1);
    assert.ok(refused.every((at, number) => number === 0 || at - refused[number - 1] > 1000), `tried at ${refused}`);
    await ana.unroute("**/likes");
    ana.refusals = false;
  },

  async "a refusal that will not pass is told of, and the button goes back"({ ana }) {
    ana.refusals = true;
    await ana.route("**/likes", (route) => route.fulfill({
      status: 403, contentType: "application/problem+json", body: JSON.stringify({ status: 403, detail: "Reactions are closed." }),
    }));
    await ana.locator("#funny").click();
    await ana.locator("#notice", { hasText: "Reactions are closed." }).waitFor();
    await pressed(ana, "funny", false);
    await ana.unroute("**/likes");
    await ana.locator("#notice-close").click();
    ana.refusals = false;
  },

  async "a page that is loaded again knows the counts and its own presses"({ ana }) {
    await ana.reload();
    await ana.locator('#state[data-state="live"]').waitFor();
    await count(ana, "all", 8);
    await pressed(ana, "support", true);
    await pressed(ana, "like", false);
  },

  async "a viewer who was offline says so, comes back, and shows what was missed"({ ana, bo }) {
    bo.refusals = true;
    await bo.context().setOffline(true);
    await bo.locator('#state[data-state="offline"]').waitFor();
    await screenshot(bo, "offline");
    await ana.locator("#insightful").click();
    await count(ana, "insightful", 2);
    await bo.context().setOffline(false);
    await bo.locator('#state[data-state="live"]').waitFor();
    await count(bo, "insightful", 2);
    bo.refusals = false;
  },

  async "a crowd's likes show as many hearts as they count"({ bo }) {
    const before = await heartsShown(bo);
    await bo.evaluate(async ([video]) => {
      // Merged or not, twelve members' likes are twelve hearts.
      await Promise.all(Array.from({ length: 12 }, (_, i) => fetch(`/v1/videos/${video}/likes`, {
        method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ member: `crowd-${i}`, reaction: "celebrate" }),
      })));
    }, [video]);
    await count(bo, "celebrate", 13);
    await bo.locator(`#hearts[data-shown="${before + 12}"]`).waitFor({ state: "attached" });
    await screenshot(bo, "crowd");
  },

  async "a plain EventSource gets connected and a published event"({ bo }) {
    // Viewers of a video are told of their number meanwhile, those of a room of nothing.
    const [hello, answer, event] = await bo.evaluate(async ([topic, limit]) => {
      const source = new EventSource(`/v1/events?topic=${encodeURIComponent(topic)}`);
      const arrives = (type) => new Promise((resolve, reject) => {
        source.addEventListener(type, (message) => resolve(JSON.parse(message.data)), { once: true });
        setTimeout(() => reject(new Error(`no ${type} event in ${limit} ms`)), limit);
      });
      try {
        const connected = arrives("connected"), message = arrives("message");
        message.catch(() => {});
        const hello = await connected;
        const response = await fetch(`/v1/topics/${encodeURIComponent(topic)}/events`, {
          method: "POST", headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ type: "announcement", data: { text: "Zugabe! \u{1F389}", list: [1, 2.5, null] } }),
        });
        return [hello, { status: response.status, body: await response.json() }, await message];
      } finally {
        source.close();
      }
    }, [`room:plain-${video}`, STEP_TIMEOUT_MS]);
    assert.equal(typeof hello.connection, "string");
    assert.deepEqual(hello.pending, [], "all topics are registered");
    assert.equal(answer.status, 202);
    assert.equal(event.id, answer.body.id);
    assert.equal(event.topic, `room:plain-${video}`);
    assert.equal(event.type, "announcement");
    assert.ok(Number.isInteger(event.at), `at is ${event.at}`);
    assert.deepEqual(event.data, { text: "Zugabe! \u{1F389}", list: [1, 2.5, null] });
  },

  async "the page fits a phone, in light and with reduced motion"({ browser }) {
    const phone = await viewer(browser, "phone", {
      viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "light", reducedMotion: "reduce",
    });
    const heart = phone.locator('.heart[data-reaction="love"]').first().waitFor({ state: "attached" });
    await phone.locator("#love").tap();
    await heart;
    await count(phone, "love", 3);
    await fits(phone);
    await phone.screenshot({ path: join(directory, "phone-light.png"), fullPage: true });
    await phone.context().close();
  },
};

await run("demo_page", steps);
