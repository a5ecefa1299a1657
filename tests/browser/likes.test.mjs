// The totals of the demo page, without a browser: `node --test tests/browser/likes.test.mjs`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Tally } from "../../src/web/likes.js";

test("the sum is over all reactions, also ones that the page has no button for", () => {
  const tally = new Tally();
  tally.told({ like: 3, funny: 2, applause: 5 });
  assert.equal(tally.sum, 10);
  assert.equal(tally.get("celebrate"), 0);
});

test("a like that was taken back is shown, also the last one of its reaction", () => {
  const tally = new Tally();
  tally.told({ like: 10, love: 1 });
  tally.told({ like: 9 });
  assert.deepEqual([tally.get("like"), tally.get("love"), tally.sum], [9, 0, 9]);
});

test("totals that were asked for show until the stream tells them", () => {
  const tally = new Tally();
  tally.snapshot({ like: 7, love: 3 });
  tally.snapshot({ like: 6 });
  assert.equal(tally.sum, 6);
  tally.told({ like: 8 });
  assert.equal(tally.sum, 8);
});

test("an answer that comes behind what the stream told does not undo it", () => {
  const tally = new Tally();
  tally.told({ like: 9 });
  tally.snapshot({ like: 10 });
  assert.equal(tally.get("like"), 9);
});

test("what one data center has does not lower what all have, and a like of this page's own shows without a stream", () => {
  const tally = new Tally();
  tally.told({ like: 10, love: 2 });
  tally.away();
  tally.snapshot({ like: 4, love: 3 });
  assert.deepEqual([tally.get("like"), tally.get("love")], [10, 3]);
});
