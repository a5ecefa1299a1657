// Each package against the server that fails: `node --test tests/packages/`.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { CLIENTS, ENVIRONMENT, here } from "./support.mjs";

const run = (...words) => promisify(execFile)(here("packages/conformance/run"), words, { env: ENVIRONMENT, maxBuffer: 1e7 });

/** What a package does not have. Python's programs are seldom where a proxy holds streams back. */
const LACKS = { python: ["--without", "poll"] };

test("each package does what is required of clients", { timeout: 200_000, concurrency: true }, (t) => {
  const all = Object.entries(CLIENTS).map(([name, command]) => t.test(name, async () => {
    // Its standard output says which case failed, and why.
    const { stdout } = await run(...LACKS[name] ?? [], ...command).catch((error) => assert.fail(`${error.stdout}\n${error.stderr}`));
    assert.match(stdout, LACKS[name] ? /^\d+ not tried, \d+ passed$/m : /^\d+ passed$/m);
  }));
  return Promise.all(all);
});

test("the page on conformance lists the cases", async () => {
  const { stdout } = await run("--list");
  const page = await readFile(here("docs/conformance.md"), "utf8");
  assert.ok(page.includes(stdout), `docs/conformance.md has another table than this one:\n${stdout}`);
});
