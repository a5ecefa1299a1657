// What the page says of a video's rules: `node --test tests/js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { lengthText, rulesText } from "../../src/web/moderation.js";

test("a length is told in whole units", () => {
  assert.deepEqual([1, 5, 60, 90, 300, 3_600, 86_400, 172_800].map(lengthText),
    ["1 second", "5 seconds", "1 minute", "90 seconds", "5 minutes", "1 hour", "1 day", "2 days"]);
});

test("rules are told in words, and where there are none nothing is", () => {
  assert.equal(rulesText({ slow_seconds: 0, comments: "open" }), "");
  assert.equal(rulesText({ slow_seconds: 5, comments: "open" }), "Slow mode: one every 5 seconds");
  assert.equal(rulesText({ slow_seconds: 60, comments: "members" }), "Members only · Slow mode: one every minute");
  assert.equal(rulesText({ slow_seconds: 0, comments: "moderators" }), "Moderators only");
});
