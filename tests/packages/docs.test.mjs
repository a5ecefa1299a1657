// What holds of every page of the documentation: `node --test tests/packages/`. tests/single/units.rs sees that links lead to a page.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { posix } from "node:path";
import { test } from "node:test";
import { here } from "./support.mjs";

const names = (await readdir(here("docs"), { recursive: true })).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`);
const pages = new Map(await Promise.all(["README.md", ...names].map(async (name) => [name, await readFile(here(name), "utf8")])));
// A heading or a link in a block of code is none.
const proseOf = (name) => pages.get(name).replace(/^```.*?^```$/gms, "");
const linksOf = (name) => [...proseOf(name).matchAll(/\]\(([^)\s]*)\)/g)].filter(([, link]) => !link.includes("://"))
  .map(([, link]) => link.split("#")).map(([path, anchor]) => ({ path: path ? posix.join(posix.dirname(name), path) : name, anchor }));

test("each page says first what its reader can do after it", () => {
  const opens = (name) => /^# [^\n]+\n\nAfter this page you /.test(pages.get(name));
  assert.deepEqual(names.filter((name) => !opens(name)), []);
});

test("whoever begins with the README finds each page", () => {
  const found = new Set(["README.md"]);
  for (const name of found) for (const { path } of linksOf(name)) if (pages.has(path)) found.add(path);
  assert.deepEqual(names.filter((name) => !found.has(name)), []);
});

test("links to a part of a page lead to a heading", () => {
  const anchorOf = (heading) => heading.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-");
  const headings = new Map([...pages.keys()].map((name) => [name, [...proseOf(name).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading))]));
  const astray = [...pages.keys()].flatMap((name) => linksOf(name).filter(({ path, anchor }) => anchor && !headings.get(path)?.includes(anchor))
    .map(({ path, anchor }) => `${name}: ${path}#${anchor}`));
  assert.deepEqual(astray, []);
});

test("files that a page names are there", () => {
  const named = [...pages.keys()].flatMap((name) => [...proseOf(name).matchAll(/`((?:src|tests|scripts|tuning|packages|benches|docs)\/[\w./-]+)`/g)]
    .map(([, path]) => ({ name, path })));
  assert.ok(named.length > 50);
  // A module is named without its ending, too; what React has is in an app of the reader's own.
  assert.deepEqual(named.filter(({ path }) => path !== "src/App.jsx" && !existsSync(here(path)) && !existsSync(here(`${path}.rs`))), []);
});

test("the page on architecture has the invariants of src/lib.rs", async () => {
  const [, listed] = /^\/\/! # Invariants\n\/\/!\n(.*?)\n\n/ms.exec(await readFile(here("src/lib.rs"), "utf8"));
  // One a line, and links of Rust's documentation are none here.
  const invariants = listed.replaceAll("//! ", "").replace(/\n +/g, " ").replace(/\[(`[^`]*`)\]/g, "$1");
  assert.ok(/\n10\. /.test(invariants));
  assert.ok(pages.get("docs/architecture.md").includes(`\n${invariants}\n`), `docs/architecture.md has other invariants than these:\n${invariants}`);
});

test("the platform's own event types stand, with class, data and owner, on the pages that say so", async () => {
  const rowsOf = async (file, name) => {
    const [, rows] = new RegExp(`const ${name}: .*?\\[\n(.*?)\n\\];`, "s").exec(await readFile(here(file), "utf8"));
    return [...rows.matchAll(/\("(\w+)", \w+::(\w+)\)/g)].map(([, type, what]) => ({ type, what: what.toLowerCase() }));
  };
  // Those of a line of a page, in quotation marks of code.
  const typesIn = (text) => [...text.matchAll(/`(\w+)`/g)].map(([, type]) => type);
  const named = (rows, what) => rows.filter((row) => row.what === what).map(({ type }) => type).sort();

  const builtIn = await rowsOf("src/wire/types.rs", "BUILT_IN"), owned = await rowsOf("src/wire/event.rs", "OWNED");
  assert.ok(builtIn.length > 10 && owned.length > 10);
  for (const name of ["sum", "latest", "ephemeral", "every"]) {
    const [, listed] = new RegExp(`^\\| \`${name}\` \\| (.*?) \\|`, "m").exec(pages.get("docs/delivery.md"));
    assert.deepEqual(typesIn(listed).sort(), named(builtIn, name), `docs/delivery.md, ${name}`);
  }
  const [, data] = /^\| type \| `data` \|\n.*?\n(.*?)\n\n/ms.exec(pages.get("docs/http.md"));
  assert.deepEqual(data.split("\n").flatMap((row) => typesIn(row.split("|")[1])).sort(), builtIn.map(({ type }) => type).sort(), "docs/http.md");
  const [, byName, byNodes] = /name them in `types`: (.*?)\.\n(.*?) and all events of/.exec(pages.get("docs/tokens.md"));
  assert.deepEqual(typesIn(byName).sort(), named(owned, "named"), "docs/tokens.md, by name");
  assert.deepEqual(typesIn(byNodes).sort(), named(owned, "nodes"), "docs/tokens.md, by nodes");
});
