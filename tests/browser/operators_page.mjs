// Drives the page of a node in headless Chromium: a node whose cluster has a secret, and a frontend that a test stops.
//
//   npm ci && node operators_page.mjs http://127.0.0.1:8081 DIRECTORY_FOR_SCREENSHOTS SECRET PID_OF_A_FRONTEND ITS_ID
//
// CHROMIUM names another browser than /usr/bin/chromium. Exits 0 when all holds, 1 with what did not.
import assert from "node:assert/strict";
import { join } from "node:path";
import { STEP_TIMEOUT_MS, base, complaints, directory, fits, launch } from "./support.mjs";

const [secret, pid, frontend] = process.argv.slice(4);
const foreign = [];

/** The page in a browser context of its own. */
async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "dark", ...options });
  context.setDefaultTimeout(STEP_TIMEOUT_MS);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    // A secret that is refused is what some steps are about, and who keeps no happenings answers 404.
    if (message.type() === "error" && !/\b40[14]\b/.test(message.text())) complaints.push(`${message.text()} (${message.location().url})`);
  });
  page.on("request", (request) => { if (!request.url().startsWith(base)) foreign.push(request.url()); });
  await page.goto(`${base}/`);
  return page;
}

async function unlock(page, text = secret) {
  if (!secret) return;
  await page.locator("#secret").fill(text);
  await page.keyboard.press("Enter");
}

const live = (page) => page.locator('#state[data-state="live"]').waitFor();
const shot = (page, name) => page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
const node = (page) => page.locator(".node", { has: page.locator(`.name[title^="${frontend} "]`) });

const steps = {
  async "nothing is shown without the secret, nor with another one"({ browser }) {
    const page = await open(browser);
    await page.locator("#ask").waitFor();
    assert.equal(await page.locator("#main").isVisible(), false);
    await unlock(page, "a-secret-of-somebody-elses-0123456789");
    await page.locator("#wrong", { hasText: "refuses" }).waitFor();
    assert.equal(await page.locator("#main").isVisible(), false);
    assert.equal(await page.locator("#secret").inputValue(), "");
    await unlock(page);
    await live(page);
    assert.equal(await page.locator("#ask").isVisible(), false);
    // This tab keeps it, another one does not have it.
    await page.reload();
    await live(page);
    assert.equal((await page.content()).includes(secret), false);
    assert.equal(page.url().includes(secret), false);
    const other = await open(browser);
    await other.locator("#ask").waitFor();
    await page.locator("#forget").click();
    await page.locator("#ask").waitFor();
    assert.equal(await page.locator("#main").isVisible(), false);
    await page.reload();
    await page.locator("#ask").waitFor();
  },

  async "the node, its cluster and its settings are there"({ browser }) {
    const page = await open(browser);
    await unlock(page);
    await live(page);
    await page.locator("#shards tr").nth(1).waitFor();
    await node(page).waitFor();
    await page.locator(".tile", { hasText: "Viewers" }).locator("strong").waitFor();
    await page.locator("#topics tr", { hasText: "live:42" }).waitFor();
    await page.locator(".hop.whole").waitFor();
    await page.locator("#settings tr", { hasText: "cores" }).waitFor();
    assert.equal(await page.locator("#settings tr", { hasText: "default" }).count(), 0);
    await page.locator("#only-set").uncheck();
    await page.locator("#settings tr", { hasText: "max_topics" }).waitFor();
    await page.locator("#find-setting").fill("cluster_secret_file");
    assert.equal(await page.locator("#settings tr").count(), 1);
    await page.locator("#find-setting").fill("no such setting");
    await page.locator("#no-settings").waitFor();
    await page.locator("#find-setting").fill("");
    // Its warnings are there, or it is said plainly that there are none to be had.
    await page.locator("#no-warnings:not(:empty), #warnings li").first().waitFor();
    await shot(page, "operators-dark");
    await page.locator("#theme").click();
    await shot(page, "operators-light-chosen");
  },

  async "a stopped frontend is late, and is well once it goes on"({ browser }) {
    const page = await open(browser);
    await unlock(page);
    await live(page);
    const stopped = node(page);
    await stopped.and(page.locator('[data-standing="well"]')).waitFor();
    process.kill(pid, "SIGSTOP");
    try {
      await stopped.and(page.locator('[data-standing="late"]')).waitFor();
      await page.locator('.finding[data-level="bad"]', { hasText: frontend.slice(0, 6) }).waitFor();
      await shot(page, "operators-late");
      await stopped.and(page.locator('[data-standing="gone"]')).waitFor();
      await shot(page, "operators-gone");
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await stopped.and(page.locator('[data-standing="well"]')).waitFor();
  },

  async "a phone shows all of it, dark and light"({ browser }) {
    for (const colorScheme of ["dark", "light"]) {
      const page = await open(browser, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, colorScheme });
      await fits(page);
      await unlock(page);
      await live(page);
      await page.locator("#settings tr").first().waitFor();
      await page.locator(".hop.whole").waitFor();
      await fits(page);
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const brightness = Math.max(...background.match(/\d+/g).map(Number));
      assert.ok(colorScheme === "dark" ? brightness < 64 : brightness > 192, `${colorScheme} is ${background}`);
      await shot(page, `operators-phone-${colorScheme}`);
    }
  },

  async "nothing comes from elsewhere"() {
    assert.deepEqual(foreign, []);
  },
};

if (!secret) delete steps["nothing is shown without the secret, nor with another one"];
await launch("operators-page", async (browser, running) => {
  for (const [name, step] of Object.entries(steps)) {
    running(name);
    await step({ browser });
    assert.deepEqual(complaints, [], "the page reports errors on its console");
    console.log(`ok   ${name}`);
  }
});
