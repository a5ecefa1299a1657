// What the page knows of comments and messages: `node --test tests/js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PostLog, Reads } from "../../src/web/posts.js";

const post = (id, member = "ana") => ({ id: String(id), member, text: `text ${id}`, at: Number(id) || 0 });
const ids = (log) => log.posts.map(({ id }) => id).join(" ");

test("what the list and the stream both tell is there once, in the list's order", () => {
  const log = new PostLog();
  log.mark();
  // Two arrive while the list is on its way; it has one of them, and what came before.
  assert.ok(log.add(post(4)));
  assert.ok(log.add(post(5)));
  log.snapshot([post(1), post(2), post(3), post(4)]);
  assert.equal(ids(log), "1 2 3 4 5");
  assert.ok(!log.add(post(3)), "a replay");
  assert.ok(log.add(post(6)));
  assert.equal(ids(log), "1 2 3 4 5 6");
});

test("what a later list lacks is gone, unless it arrived after the list was asked for", () => {
  const log = new PostLog();
  log.mark();
  log.snapshot([post(1), post(2)]);
  log.add(post(3));
  log.mark();
  log.add(post(7));
  log.snapshot([post(1), post(3), post(5)]);
  assert.equal(ids(log), "1 3 5 7");
});

test("a deleted post stays away, whoever tells of it later", () => {
  const log = new PostLog();
  log.mark();
  log.add(post(1));
  assert.ok(log.remove("1"));
  assert.ok(!log.remove("1"));
  assert.ok(!log.remove("9"), "deleted before it was heard of");
  log.snapshot([post(1), post(2), post(9)]);
  log.add(post(1));
  log.add(post(9));
  assert.equal(ids(log), "2");
});

test("a long talk shows its newest posts", () => {
  const log = new PostLog();
  for (let n = 1; n <= 250; n++) log.add(post(n));
  assert.equal(log.posts.length, 200);
  assert.equal(log.posts[0].id, "51");
  assert.ok(!log.has("50"));
  assert.equal(log.place("51"), 0);
  assert.equal(log.place("50"), -1);
});

test("whatever order events and lists come in, each post that is not deleted is shown once", () => {
  let seed = 1;
  const dice = (n) => (seed = (seed * 48_271) % 2_147_483_647) % n;
  for (let round = 0; round < 300; round++) {
    const log = new PostLog(), stored = new Map(), pending = [];
    let listed = null;
    for (let step = 1; step < 40; step++) {
      const what = dice(6);
      if (what < 2) {
        stored.set(String(step), post(step));
        pending.push({ add: post(step) });
      } else if (what === 2 && stored.size > 0) {
        const id = [...stored.keys()][dice(stored.size)];
        stored.delete(id);
        pending.push({ remove: id });
      } else if (what === 3 && listed === null) {
        // Asked for when all that was told has arrived, as after `connected`.
        log.mark();
        listed = [...stored.values()];
      } else if (what === 4 && listed !== null) {
        log.snapshot(listed);
        listed = null;
      } else {
        for (const { add, remove } of pending.splice(0, 1 + dice(3))) {
          if (add) log.add(add);
          else log.remove(remove);
        }
      }
    }
    for (const { add, remove } of pending) {
      if (add) log.add(add);
      else log.remove(remove);
    }
    if (listed !== null) log.snapshot(listed);
    assert.deepEqual(log.posts.map(({ id }) => id).sort(), [...stored.keys()].sort(), `round ${round}`);
  }
});

test("a receipt only goes forward, by the talk's order where that is known and by time elsewhere", () => {
  const log = new PostLog();
  for (const id of ["a", "b", "c"]) log.add(post(id));
  const reads = new Reads(log);
  assert.ok(reads.read("bo", "b", 100));
  assert.ok(!reads.read("bo", "a", 200), "the order decides, not the clock");
  assert.equal(reads.get("bo"), "b");
  assert.deepEqual(reads.at("b"), ["bo"]);
  assert.ok(reads.read("bo", "d", 300), "its message is on the way still");
  assert.ok(!reads.read("bo", "c", 250));
  log.add(post("d"));
  assert.ok(!reads.read("bo", "c", 400));
  assert.deepEqual([reads.at("d"), reads.members], [["bo"], ["bo"]]);
});
