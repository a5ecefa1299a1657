// Drives what people say on the demo page, and who is there, in headless Chromium: comments, viewer count, chat with typing
// and receipts, green dots, the keyboard, a phone, both colour schemes, a simulated crowd. Usage: as demo_page.mjs.
import assert from "node:assert/strict";
import { join } from "node:path";
import { FAKED, directory, fits, request, run, screenshot, video, viewer } from "./support.mjs";

const conversation = `crew-${video}`;
const comments = `/v1/videos/${video}/comments`, chat = `/v1/conversations/${conversation}`;
const comment = (page, text) => page.locator("#comments .comment:not(.pending)", { hasText: text });
const message = (page, text) => page.locator("#messages .message:not(.pending)", { hasText: text });
const texts = (page, list = "#comments .comment .text") => page.locator(list).allTextContents();
const publish = (topic, type, key, data) => request("POST", `/v1/topics/${encodeURIComponent(topic)}/events`, { type, key, data });

/** Writes into a field and sends it. */
async function say(page, field, text) {
  await page.locator(field).fill(text);
  await page.locator(field).press("Enter");
}

// It is seen for as long as it takes to slide away.
const closed = (page) => page.locator('#chat[data-open="false"]').waitFor({ state: "attached" });

const steps = {
  async "a comment is seen by the other, once each, and its writer's field is empty again"({ ana, bo }) {
    await bo.locator("#comments-empty").waitFor();
    await say(ana, "#comment-text", "First row, can you see me?");
    await comment(bo, "First row").waitFor();
    await comment(ana, "First row").waitFor();
    assert.equal(await ana.locator("#comment-text").inputValue(), "");
    await say(bo, "#comment-text", "I can <b>see</b> you & wave");
    await comment(ana, "I can <b>see</b> you & wave").waitFor();
    const both = ["First row, can you see me?", "I can <b>see</b> you & wave"];
    assert.deepEqual(await texts(ana), both);
    assert.deepEqual(await texts(bo), both);
  },

  async "comments are there after a reload, and none twice"({ ana, bo }) {
    await bo.reload();
    await bo.locator('#state[data-state="live"]').waitFor();
    await comment(bo, "I can").waitFor();
    await say(ana, "#comment-text", "Still here");
    await comment(bo, "Still here").waitFor();
    assert.deepEqual(await texts(bo), ["First row, can you see me?", "I can <b>see</b> you & wave", "Still here"]);
    await screenshot(bo, "comments-after-reload");
  },

  async "what was said while away is there after coming back, and what was deleted is not"({ ana, bo }) {
    bo.refusals = true;
    await bo.context().setOffline(true);
    await bo.locator('#state[data-state="offline"]').waitFor();
    await say(ana, "#comment-text", "Said while bo was away");
    await comment(ana, "Said while").waitFor();
    const { comments: stored } = await request("GET", comments);
    await request("DELETE", `${comments}/${stored.find(({ text }) => text === "Still here").id}`, { member: "ana" });
    await bo.context().setOffline(false);
    await bo.locator('#state[data-state="live"]').waitFor();
    await comment(bo, "Said while").waitFor();
    await comment(bo, "Still here").waitFor({ state: "detached" });
    assert.equal((await texts(bo)).length, 3);
    bo.refusals = false;
  },

  async "a deleted comment vanishes from both, and only its writer can delete it here"({ ana, bo }) {
    assert.equal(await comment(bo, "First row").locator(".delete:visible").count(), 0);
    await comment(ana, "First row").hover();
    await comment(ana, "First row").locator(".delete").click();
    await comment(bo, "First row").waitFor({ state: "detached" });
    await comment(ana, "First row").waitFor({ state: "detached" });
    await bo.reload();
    await comment(bo, "Said while").waitFor();
    assert.equal(await comment(bo, "First row").count(), 0, "nor is it there after a reload");
  },

  async "a comment that a busy server refuses is kept and stored later, once"({ ana, bo }) {
    let busy = true;
    ana.refusals = true;
    await ana.route(`**${comments}`, (route) => route.request().method() !== "POST" || !busy ? route.continue() : route.fulfill({
      status: 503, contentType: "application/problem+json", headers: { "Retry-After": "3" }, body: JSON.stringify({ detail: "The database is busy." }),
    }));
    await say(ana, "#comment-text", "Twice is once");
    await ana.locator("#notice", { hasText: "The database is busy." }).waitFor();
    await ana.locator("#comments .comment.pending", { hasText: "Twice is once" }).waitFor();
    busy = false;
    await comment(bo, "Twice is once").waitFor();
    await ana.locator("#notice").waitFor({ state: "hidden" });
    assert.equal(await comment(bo, "Twice is once").count(), 1);
    await ana.unroute(`**${comments}`);
    ana.refusals = false;
  },

  async "how many watch is shown, and follows"({ ana, bo, browser }) {
    const shows = (page, viewers) => page.locator(`#viewers[data-value="${viewers}"]`).waitFor();
    const tell = (viewers) => FAKED.has("viewers") && publish(`live:${video}`, "viewers", "viewers", { viewers });
    await tell(2);
    await shows(ana, 2);
    await shows(bo, 2);
    const third = await viewer(browser, "cleo");
    await tell(3);
    await shows(ana, 3);
    await shows(third, 3);
    await third.context().close();
    await tell(2);
    await shows(bo, 2);
    return FAKED.has("viewers") ? "the counts were published by the test" : "";
  },

  async "who is here has a green dot, and loses it"({ ana, bo, browser }) {
    /** Waits for a dot; where the server does not tell of it, the test does, until the page has subscribed. */
    const dot = async (page, member, online) => {
      const shown = page.locator(`.comment .avatar[data-member="${member}"][data-online="${online}"]`).first();
      // A clean close counts after the guard of the design: within 40 s.
      if (!FAKED.has("presence")) return shown.waitFor({ timeout: 90_000 });
      for (let tries = 0; tries < 20; tries++) {
        await publish(`presence:${member}`, "presence", member, { member, online, [online ? "since" : "last_seen"]: Date.now() });
        if (await shown.waitFor({ timeout: 1_000 }).then(() => true, () => false)) return;
      }
      assert.fail(`${page.url()} does not show that ${member} is ${online ? "online" : "gone"}`);
    };
    await dot(ana, "bo", true);
    const cleo = await viewer(browser, "cleo");
    await say(cleo, "#comment-text", "Just passing by");
    await comment(ana, "Just passing by").waitFor();
    await dot(ana, "cleo", true);
    await dot(bo, "cleo", true);
    await screenshot(ana, "green-dots");
    await cleo.context().close();
    await dot(ana, "cleo", false);
    return FAKED.has("presence") ? "presence was published by the test" : "";
  },

  async "a message is a number at the closed drawer, and reading it takes the number away"({ ana, bo }) {
    // The address asked for the conversation, so the drawers are open.
    for (const page of [ana, bo]) await page.locator('#chat[data-open="true"]').waitFor();
    await bo.locator("#chat-close").click();
    await closed(bo);
    await say(ana, "#chat-text", "Are you in the hall?");
    await message(ana, "Are you in the hall?").waitFor();
    await bo.locator('#chat-unread[data-value="1"]').waitFor();
    assert.equal(await bo.locator("#chat-toggle").getAttribute("aria-label"), "Chat, 1 unread");
    assert.equal(await message(ana, "Are you in the hall?").locator(".read-by").textContent(), "");
    await bo.locator("#chat-toggle").click();
    await message(bo, "Are you in the hall?").waitFor();
    await message(ana, "Are you in the hall?").locator(".read-by", { hasText: "Read by bo" }).waitFor();
    await bo.locator("#chat-unread").waitFor({ state: "hidden" });
  },

  async "who types is shown until the message is there"({ ana, bo }) {
    await bo.locator("#chat-text").pressSequentially("On my w");
    await ana.locator("#typing-text", { hasText: "bo is typing" }).waitFor();
    await screenshot(ana, "typing");
    await bo.locator("#chat-text").pressSequentially("ay");
    await bo.keyboard.press("Enter");
    await message(ana, "On my way").waitFor();
    await ana.locator("#typing-text", { hasText: /^$/ }).waitFor({ state: "attached" });
    await message(bo, "On my way").locator(".read-by", { hasText: "Read by ana" }).waitFor();
    // Who typed is not told so of himself.
    assert.equal(await bo.locator("#typing-text").textContent(), "");
    await screenshot(bo, "read-receipt");
  },

  async "messages and receipts are there after a reload, and a deleted message is gone"({ ana, bo }) {
    await bo.reload();
    await message(bo, "On my way").locator(".read-by", { hasText: "Read by ana" }).waitFor();
    assert.deepEqual(await texts(bo, "#messages .message .text"), ["Are you in the hall?", "On my way"]);
    assert.ok(await bo.locator("#chat-unread").isHidden(), "what was read stays read");
    const { messages } = await request("GET", `${chat}/messages`);
    await request("DELETE", `${chat}/messages/${messages[0].id}`, { member: "ana" });
    await message(bo, "Are you in the hall?").waitFor({ state: "detached" });
    await message(ana, "Are you in the hall?").waitFor({ state: "detached" });
  },

  async "all of it works by keyboard alone"({ browser, ana }) {
    const kim = await viewer(browser, "kim", {}, `&chat=${conversation}`);
    await kim.locator('#chat[data-open="true"]').waitFor();
    await kim.keyboard.press("Escape");
    await closed(kim);
    const focused = () => kim.evaluate(() => document.activeElement.id || document.activeElement.className);
    assert.equal(await focused(), "chat-toggle", "a closed drawer gives the focus back");
    // On through the page; what is closed away is not met.
    const met = [];
    for (let i = 0; i < 14 && met.at(-1) !== "comment-text"; i++) {
      await kim.keyboard.press("Tab");
      met.push(await focused());
    }
    for (const id of ["like", "funny", "comments", "comment-text"]) assert.ok(met.includes(id), `Tab meets ${id} (it met ${met})`);
    await kim.keyboard.type("No mouse needed");
    await kim.keyboard.press("Enter");
    await comment(ana, "No mouse needed").waitFor();
    const outline = await kim.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, "solid", "where the focus is can be seen");
    await screenshot(kim, "keyboard");
    while (await focused() !== "chat-toggle") await kim.keyboard.press("Shift+Tab");
    await kim.keyboard.press("Enter");
    await kim.locator('#chat[data-open="true"]').waitFor();
    assert.equal(await focused(), "chat-text");
    await kim.keyboard.type("Typed and sent");
    await kim.keyboard.press("Enter");
    await message(ana, "Typed and sent").waitFor();
    await kim.context().close();
  },

  async "it fits a phone, and the chat comes up as a sheet"({ browser, ana }) {
    const phone = await viewer(browser, "fay", {
      viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true,
    }, `&chat=${conversation}`);
    await comment(phone, "No mouse needed").waitFor();
    await fits(phone);
    await phone.screenshot({ path: join(directory, "phone-dark.png"), fullPage: true });
    await phone.locator("#chat-toggle").tap();
    await message(phone, "Typed and sent").waitFor();
    await say(phone, "#chat-text", "From the tram");
    await message(ana, "From the tram").waitFor();
    await fits(phone);
    await screenshot(phone, "phone-chat");
    await phone.context().close();
    // The header has most in it when there is a crowd, too.
    const small = await viewer(browser, "gil", { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true }, "&members=5");
    await small.locator("#latency").waitFor();
    await fits(small);
    await screenshot(small, "phone-small-with-crowd");
    await small.context().close();
  },

  async "text has contrast in dark and in light"({ browser }) {
    for (const colorScheme of ["dark", "light"]) {
      const page = await viewer(browser, "ana", { colorScheme }, `&chat=${conversation}`);
      await comment(page, "No mouse needed").waitFor();
      await message(page, "From the tram").waitFor();
      const poor = await page.evaluate(() => {
        // WCAG 2: relative luminance, and 4.5 for text. The nearest opaque background counts.
        const parse = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
        const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
          .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (node) => {
          for (; node; node = node.parentElement) {
            const colour = parse(getComputedStyle(node).backgroundColor);
            if (colour.length === 3) return colour;
          }
          return [0, 0, 0];
        };
        return [...document.querySelectorAll(".sub, .who, .when, .text, .tally, .number, .name, .read-by, .card p, .pill-label, #state-text, .send, .bubble .text")]
          .filter((node) => node.textContent && !node.closest("#feed, .pending"))
          .map((node) => {
            const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.className, node.textContent.slice(0, 20)];
          })
          .filter(([ratio]) => ratio < 4.5);
      });
      assert.deepEqual(poor, [], `poor contrast in ${colorScheme}`);
      await screenshot(page, `chat-${colorScheme}`);
      await page.context().close();
    }
  },

  async "a simulated crowd arrives, reacts and comments within its bounds, and can be paused"({ browser }) {
    const page = await viewer(browser, "ana", { reducedMotion: "no-preference" }, "&members=200");
    let asked = 0;
    page.on("request", (one) => { if (one.method() === "POST" && /\/(likes|comments)$/.test(one.url())) asked++; });
    const before = Number(await page.locator("#comments-count").getAttribute("data-value")), began = Date.now();
    await page.locator(`#comments .comment:not(.mine) .who`, { hasText: /-[0-9a-z]{2,}$/ }).nth(3).waitFor();
    assert.ok(Number(await page.locator("#comments-count").getAttribute("data-value")) > before);
    await page.locator(".heart").first().waitFor({ state: "attached" });
    await screenshot(page, "simulated-crowd");
    await page.locator("#crowd").click();
    await page.locator('#crowd[aria-pressed="false"]').waitFor();
    // 25 a second and what was under way.
    const seconds = (Date.now() - began) / 1_000;
    assert.ok(asked <= 25 * (seconds + 2), `${asked} requests in ${seconds} s`);
    await page.context().close();
  },
};

await run("talk_page", steps, `&chat=${conversation}`);
