// Typing, presence, the address, the simulated crowd: `node --test tests/js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { readQuery, encode } from "../../src/web/context.js";
import { Script } from "../../src/web/crowd.js";
import { Newest, Present, TypingTeller, Typists, typingText } from "../../src/web/talk.js";

test("who types is shown until the message, or until nothing is heard any more", () => {
  const typists = new Typists();
  typists.typing("ana", 0);
  typists.typing("bo", 3_000);
  assert.deepEqual(typists.list(5_000), ["ana", "bo"]);
  typists.typing("ana", 5_000);
  assert.deepEqual(typists.list(9_500), ["ana"]);
  typists.said("ana");
  assert.deepEqual(typists.list(9_500), []);
});

test("typing is told in words", () => {
  assert.equal(typingText([]), "");
  assert.equal(typingText(["ana"]), "ana is typing");
  assert.equal(typingText(["ana", "bo"]), "ana and bo are typing");
  assert.equal(typingText(["ana", "bo", "cy", "di"]), "ana, bo and 2 more are typing");
});

test("a member who types says so every 3 s, and at once in the next message", () => {
  const teller = new TypingTeller();
  assert.deepEqual([0, 100, 2_999, 3_000].map((now) => teller.tells(now, "x")), [true, false, false, true]);
  assert.ok(!teller.tells(9_000, "  "), "nothing is typed");
  teller.tells(9_000, "x");
  teller.sent();
  assert.ok(teller.tells(9_100, "y"));
});

test("a value that is older than what is shown does not come back", () => {
  const viewers = new Newest();
  assert.ok(viewers.set(10, 100));
  assert.ok(!viewers.set(7, 99));
  assert.equal(viewers.value, 10);
  assert.ok(!viewers.set(10, 101), "no change");
  assert.ok(viewers.set(11, 101));
});

test("presence is followed for a bounded number of members, those that were shown last", () => {
  const present = new Present(3);
  assert.deepEqual(present.follow(["ana", "bo", "cy"]), { added: ["ana", "bo", "cy"], dropped: [] });
  assert.ok(present.set("ana", true, 100));
  assert.deepEqual(present.follow(["ana", "di"]), { added: ["di"], dropped: ["bo"] });
  assert.equal(present.online("ana"), true, "what is known stays known");
  assert.ok(!present.set("bo", true, 100), "not followed");
  assert.equal(present.online("bo"), undefined);
  present.set("ana", false, 50);
  assert.equal(present.online("ana"), true, "an old word");
  const many = present.follow(["e", "f", "g", "h"]);
  assert.deepEqual([many.added, present.members], [["f", "g", "h"], ["f", "g", "h"]]);
});

test("the address is read, and what no topic can have is not taken", () => {
  const read = (search, known = null) => readQuery(search, known, () => 0.5);
  assert.deepEqual(read("?video=7&member=ana&chat=crew&members=200"), {
    video: "7", conversation: "crew", chatAsked: true, member: "ana", named: true, crowd: 200,
  });
  assert.deepEqual([read("").video, read("").conversation, read("?video=9").conversation], ["42", "42", "9"]);
  for (const video of [".", "..", " ", "ü".repeat(40)]) assert.equal(read(`?video=${encodeURIComponent(video)}`).video, "42", video);
  assert.equal(read("", "known").member, "known");
  assert.match(read("").member, /^[a-z]+-[0-9a-z]+$/);
  assert.equal([...read(`?member=${encodeURIComponent("🙂".repeat(80))}`).member].length, 64);
  for (const [members, crowd] of [["0", 0], ["-5", 0], ["x", 0], ["2.9", 2], ["1e9", 1_000]]) assert.equal(read(`?members=${members}`).crowd, crowd, members);
  assert.equal(encode("it's (a) 100%!*"), "it%27s%20%28a%29%20100%25%21%2A");
});

test("a crowd follows from its seed, arrives, keeps to its bounds, and nobody likes twice the same way", () => {
  const play = (seed) => {
    const script = new Script(200, seed, "x"), acts = [], perSecond = new Map();
    for (let now = 5_000; now < 95_000; now += 100) {
      for (const act of script.due(now)) {
        acts.push(act);
        perSecond.set(Math.floor(now / 1_000), (perSecond.get(Math.floor(now / 1_000)) ?? 0) + 1);
      }
    }
    return { script, acts, perSecond };
  };
  const { script, acts, perSecond } = play(1);
  assert.deepEqual(play(1).acts, acts);
  assert.notDeepEqual(play(2).acts, acts);
  assert.equal(script.arrived, 200);
  const most = Math.max(...perSecond.values());
  assert.ok(most <= 26 && most > 15, `a burst of ${most} a second`);
  const likes = acts.filter(({ kind }) => kind === "like").map(({ member, reaction }) => `${member} ${reaction}`);
  assert.equal(new Set(likes).size, likes.length);
  assert.ok(acts.some(({ kind }) => kind === "comment"));
  // Few soon have pressed everything.
  const few = new Script(3, 1, "x"), pressed = [];
  for (let now = 0; now < 120_000; now += 100) pressed.push(...few.due(now).filter(({ kind }) => kind === "like"));
  assert.ok(pressed.length > 3 * 6, `${pressed.length} likes`);
  assert.equal(new Set(pressed.map(({ member, reaction }) => `${member} ${reaction}`)).size, pressed.length);
});

test("a crowd that was paused does not catch up", () => {
  const script = new Script(50, 1, "x");
  script.due(0);
  for (let now = 100; now < 20_000; now += 100) script.due(now);
  assert.ok(script.due(3_600_000).length <= 26);
});
