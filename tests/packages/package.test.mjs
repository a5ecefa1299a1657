// What would be published: `node --test tests/packages/`.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { here } from "./support.mjs";

const read = (path) => readFile(here(path), "utf8");

test("the packages have the program's version", async () => {
  const version = (text) => /^version = "(.*)"$/m.exec(text)[1];
  const ours = version(await read("Cargo.toml"));
  assert.equal(JSON.parse(await read("packages/js/package.json")).version, ours);
  assert.equal(version(await read("packages/python/pyproject.toml")), ours);
});

test("the package for npm has each file that it names and its licenses, and depends on nothing", async () => {
  const { stdout } = await promisify(execFile)("npm", ["pack", "--dry-run", "--json"], { cwd: here("packages/js") });
  const files = JSON.parse(stdout)[0].files.map(({ path }) => path);
  const described = JSON.parse(await read("packages/js/package.json"));
  assert.equal(described.dependencies, undefined);
  const named = ["LICENSE-APACHE", "LICENSE-MIT", ...Object.values(described.exports).flatMap(Object.values)];
  for (const file of files.filter((path) => path.endsWith(".js"))) {
    const text = await read(`packages/js/${file}`);
    for (const [, other] of text.matchAll(/(?:from |import\()"(\.[^"]*)"/g)) named.push(new URL(other, `file:///${file}`).pathname);
  }
  assert.ok(named.length > 10, `${named}`);
  for (const name of named) assert.ok(files.includes(name.replace(/^\.?\//, "")), `${name} is named and not packed: ${files}`);
  assert.ok(files.every((path) => /^(fanfare\.js|fanfare\/\w+\.js|react\.js|\w+\.d\.ts|package\.json|README\.md|LICENSE-\w+)$/.test(path)), `${files}`);
});
