// What the browser tests share: viewers in contexts of their own, and steps that run one after the other.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";

// Generous: a test waits for what it names, and ends at once when that is there.
export const STEP_TIMEOUT_MS = 100_000;
const OVERALL_TIMEOUT_MS = 600_000;

/**
 * What the server under test does not send by itself yet. The steps that need it publish it as the server will, and say
 * so in what they print. Empty this list when it does: then they wait for the server's own.
 */
export const FAKED = new Set([]);

export const [base, directory] = [process.argv[2]?.replace(/\/+$/, ""), process.argv[3]];
if (!base || !directory) {
  console.error(`usage: node ${process.argv[1]} BASE_URL DIRECTORY_FOR_SCREENSHOTS`);
  process.exit(1);
}

// A run meets a video of its own, so that its counts are known whatever the database holds.
export const video = `browser-${randomUUID().slice(0, 8)}`;
/** Faults that pages reported. */
export const complaints = [];

/** Whether a refused request is one for what the server does not have yet. */
const faked = (url) => [...FAKED].some((what) => new URL(url, base).pathname === `/v1/${what}`);

/**
 * A viewer in a browser context of its own: no storage, cookies or connections shared with another's. The stage stands still
 * unless a step asks for motion: without a graphics processor three of them keep two processors busy.
 */
export async function viewer(browser, member, options = {}, query = "") {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "dark", reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(STEP_TIMEOUT_MS);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(`${member}: ${error.message}`));
  page.on("console", (message) => {
    // A refused request is what some steps are about; everything else on the console is a fault of the page.
    if (message.type() !== "error" || page.refusals || faked(message.location().url)) return;
    complaints.push(`${member}: ${message.text()} (${message.location().url})`);
  });
  // FANFARE_WEB names a folder whose files are taken in place of the program's, to try a change without a build; fanfare.js is the package's.
  if (process.env.FANFARE_WEB) await page.route(/\.(js|css)$/, async (route) => {
    const { pathname } = new URL(route.request().url()), packaged = new URL(`../../packages/js${pathname}`, import.meta.url);
    const response = await route.fetch({ headers: { ...route.request().headers(), "if-none-match": "" } });
    await route.fulfill({ response, body: await readFile(join(process.env.FANFARE_WEB, pathname)).catch(() => readFile(packaged)) });
  });
  await page.goto(`${base}/?video=${video}&member=${member}${query}`);
  await page.locator('#state[data-state="live"]').waitFor();
  return page;
}

export const screenshot = (page, name) => page.screenshot({ path: join(directory, `${name}.png`) });

/** The page is no wider than the screen. A phone's browser would zoom out until it is, so its own width says nothing. */
export async function fits(page) {
  const content = await page.evaluate(() => document.documentElement.scrollWidth), { width } = page.viewportSize();
  assert.ok(content <= width, `the page is ${content} px wide on a screen of ${width} px`);
}

/** A request as another program would make it. */
export async function request(method, path, body) {
  const response = await fetch(base + path, {
    method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body), signal: AbortSignal.timeout(STEP_TIMEOUT_MS),
  });
  const answer = await response.json();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Runs `what` with a browser and a function that is told what is being done; a screenshot of each page is taken if it fails. */
export async function launch(test, what) {
  await mkdir(directory, { recursive: true });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  let running = "opening the pages";
  const overall = setTimeout(() => {
    console.error(`${test}: timed out after ${OVERALL_TIMEOUT_MS} ms in: ${running}`);
    browser.close().finally(() => process.exit(1));
  }, OVERALL_TIMEOUT_MS);
  try {
    await what(browser, (name) => { running = name; });
  } catch (problem) {
    console.error(`FAIL ${running}\n${problem.message}`);
    for (const complaint of complaints) console.error(`page: ${complaint}`);
    const pages = browser.contexts().flatMap((context) => context.pages());
    for (const [at, page] of pages.entries()) await page.screenshot({ path: join(directory, `failed-${test}-${at}.png`) }).catch(() => {});
    process.exitCode = 1;
  } finally {
    clearTimeout(overall);
    await browser.close();
  }
}

/** Runs the steps with two viewers, ana and bo. */
export const run = (test, steps, query = "") => launch(test, async (browser, running) => {
  const [ana, bo] = await Promise.all([viewer(browser, "ana", {}, query), viewer(browser, "bo", {}, query)]);
  for (const [name, step] of Object.entries(steps)) {
    running(name);
    const note = await step({ ana, bo, browser });
    assert.deepEqual(complaints, [], "the page reports errors on its console");
    console.log(`ok   ${name}${note ? ` (${note})` : ""}`);
  }
});
