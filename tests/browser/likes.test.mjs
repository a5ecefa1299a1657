// The totals of the demo page, without a browser: `node --test tests/browser/likes.test.mjs`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Tally } from "../../src/web/likes.js";

const T = 1_732_313_131_000;

/** A tally that loaded `likes` at T. */
function loaded(likes) {
  const tally = new Tally();
  tally.snapshot({ like: likes }, T);
  return tally;
}

test("the sum is over all reactions, also ones that the page has no button for", () => {
  const tally = new Tally();
  tally.snapshot({ like: 3, funny: 2, applause: 5 }, T);
  assert.equal(tally.sum, 10);
  assert.equal(tally.get("celebrate"), 0);
});

test("an older like that arrives late does not lower the total", () => {
  const tally = loaded(10);
  tally.like("like", 13, T + 5_000);
  tally.like("like", 11, T + 4_900);
  tally.like("like", 12, T + 2_000);
  assert.equal(tally.get("like"), 13);
});

test("an unlike lowers the total, and the next like raises it again", () => {
  const tally = loaded(10);
  tally.unlike("like", 9, T + 50);
  assert.equal(tally.get("like"), 9);
  tally.like("like", 10, T + 60);
  assert.equal(tally.get("like"), 10);
});

test("a like from long before an unlike does not undo it", () => {
  const tally = loaded(10);
  tally.like("like", 12, T + 8_000);
  tally.unlike("like", 11, T + 9_000);
  tally.like("like", 12, T + 3_000);
  assert.equal(tally.get("like"), 11);
});

test("the unlike that a new subscriber is sent does not undo what was loaded since", () => {
  const before = new Tally();
  before.unlike("like", 4, T - 60_000);
  before.snapshot({ like: 30 }, T);
  assert.equal(before.get("like"), 30, "the unlike came first");
  const after = loaded(30);
  after.unlike("like", 4, T - 60_000);
  assert.equal(after.get("like"), 30, "the totals came first");
});

test("events that arrive while the totals are loaded are not lost", () => {
  const tally = new Tally();
  tally.like("like", 8, T + 20);
  tally.unlike("love", 2, T + 20);
  tally.snapshot({ like: 7, love: 3 }, T);
  assert.equal(tally.get("like"), 8);
  assert.equal(tally.get("love"), 2);
});

test("a clearly newer like heals a total after an unlike was missed", () => {
  const tally = loaded(10);
  tally.like("like", 11, T + 100);
  tally.like("like", 9, T + 5_000);
  assert.equal(tally.get("like"), 9);
});

test("totals loaded after a reconnect replace what was shown", () => {
  const tally = loaded(10);
  tally.like("like", 12, T + 100);
  tally.snapshot({ like: 6 }, T + 60_000);
  assert.equal(tally.get("like"), 6);
});

test("an unlike that is older than what was last applied is not applied, however little older", () => {
  const tally = loaded(10);
  tally.like("like", 12, T + 500);
  tally.unlike("like", 9, T + 400);
  assert.equal(tally.get("like"), 12);
});

test("the newest unlike, as sent on opening a stream, does not undo likes of the same second", () => {
  for (const totalsFirst of [false, true]) {
    const tally = new Tally();
    tally.opened(T);
    if (totalsFirst) tally.snapshot({ like: 10 }, T);
    tally.unlike("like", 9, T - 300);
    if (!totalsFirst) tally.snapshot({ like: 10 }, T);
    assert.equal(tally.get("like"), 10, `totals ${totalsFirst ? "first" : "last"}`);
    tally.unlike("like", 9, T + 20);
    assert.equal(tally.get("like"), 9, "one from now on counts");
  }
});
