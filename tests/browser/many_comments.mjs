// Drives a page whose video has more comments than anybody can read, in headless Chromium: some are shown, the same to all;
// who asks for all gets all, and reads them in peace. The node must have a pace of comments. Usage: as demo_page.mjs.
import assert from "node:assert/strict";
import { join } from "node:path";
import { directory, fits, request, run, screenshot, video, viewer } from "./support.mjs";

const comments = `/v1/videos/${video}/comments`;
const comment = (page, text) => page.locator("#comments .comment", { hasText: text });
// A page lists what came before it is live some time after it says so, and of what it lists nothing is left out.
const hasListed = (page) => page.waitForFunction(
  (path) => performance.getEntriesByType("resource").some(({ name }) => name.includes(path)), comments);
const texts = (page) => page.locator("#comments .comment .text").allTextContents();

/** Many at once, and more until one of these is shown to who is shown few. Gives its text and how many were written. */
async function flood(page, name, count) {
  const say = (n, text) => request("POST", comments, { member: `fan-${n % 20}`, text });
  await Promise.all(Array.from({ length: count }, (_, n) => say(n, `${name} ${n}`)));
  for (let more = 1; ; more++) {
    const last = `after ${name} ${more}`;
    await say(more, last);
    if (await comment(page, last).waitFor({ timeout: 1_000 }).then(() => true, () => false)) return { last, count: count + more };
  }
}

const steps = {
  async "of too many comments both are shown the same few, and told of the others"({ ana, bo }) {
    assert.ok(await ana.locator("#comments-which").isHidden(), "without any left out there is no choice");
    await Promise.all([ana, bo].map(hasListed));
    const { last, count } = await flood(bo, "wave", 100);
    await comment(ana, last).waitFor();
    const shown = await texts(ana);
    assert.deepEqual(await texts(bo), shown);
    assert.ok(shown.length > 1 && shown.length < 60, `${shown.length} are shown`);
    await ana.locator("#comments-all", { hasText: `All +${count - shown.length}` }).waitFor();
    await screenshot(ana, "top-comments");
  },

  async "who asks for all gets all, and others still what can be read"({ ana, bo }) {
    await ana.locator("#comments-all").click();
    await ana.locator('#comments-all[aria-pressed="true"]').waitFor();
    // What was left out before is in the list.
    await ana.locator("#comments .comment").nth(99).waitFor();
    const { last } = await flood(bo, "storm", 60);
    await comment(ana, last).waitFor();
    assert.equal((await texts(ana)).filter((text) => text.startsWith("storm")).length, 60);
    assert.ok((await texts(bo)).filter((text) => text.startsWith("storm")).length < 50);
    assert.equal(new Set(await texts(ana)).size, (await texts(ana)).length, "none twice");
    await screenshot(ana, "all-comments");
  },

  async "what is being read stays while hundreds come, and they are at the end"({ ana, bo }) {
    await ana.locator("#comments").evaluate((list) => { list.scrollTop = 0; });
    const first = (await texts(ana))[0], top = () => comment(ana, first).first().evaluate((item) => item.getBoundingClientRect().top);
    const before = await top();
    const { last } = await flood(bo, "rush", 250);
    // As many as are kept.
    await ana.locator("#comments-new", { hasText: "200 new comments" }).waitFor();
    assert.equal(await top(), before);
    await screenshot(ana, "comments-held");
    await ana.locator("#comments-new").click();
    await comment(ana, last).waitFor();
    await ana.locator("#comments-new").waitFor({ state: "hidden" });
    assert.equal((await texts(ana)).at(-1), last);
  },

  async "back to what can be read"({ ana, bo }) {
    await ana.locator("#comments-top").click();
    await ana.locator('#comments-top[aria-pressed="true"]').waitFor();
    await ana.locator('#state[data-state="live"]').waitFor();
    const { last } = await flood(bo, "calm", 60);
    await comment(ana, last).waitFor();
    const calm = async (page) => (await texts(page)).filter((text) => text.startsWith("calm"));
    assert.deepEqual(await calm(ana), await calm(bo));
    assert.ok((await calm(ana)).length < 50);
  },

  async "it fits a phone"({ browser }) {
    const phone = await viewer(browser, "fay", { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
    await hasListed(phone);
    await flood(phone, "tram", 100);
    await phone.locator("#comments-which").waitFor();
    await fits(phone);
    await phone.screenshot({ path: join(directory, "phone-top-comments.png"), fullPage: true });
    await phone.context().close();
  },
};

await run("many_comments", steps);
