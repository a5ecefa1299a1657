// What a node says of its own interface: each document by its own linter, and its requests by schemathesis.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { folder, here, startNode } from "./support.mjs";

const run = promisify(execFile);
const { Parser } = await import(here("tests/description/node_modules/@asyncapi/parser/cjs/index.js"));

const TYPES = '[events.score]\nclass = "latest"\n[events.goal]\nclass = "every"\n[events.cheer]\nclass = "sum"\nwindow = "1s"\n';

/** A node whose tokens and event types are its own, and a token for everything. */
async function startSecured(t, flags = []) {
  const place = await folder(t);
  const [key, config] = [join(place, "key"), join(place, "fanfare.toml")];
  await writeFile(key, "a secret of thirty-two bytes, or more");
  await writeFile(config, TYPES);
  const node = await startNode(t, ["--config", config, "--auth", "jwt", "--jwt-key-file", key, "--jwt-cookie", "session", ...flags]);
  const words = ["token", "--key-file", key, "--sub", "ana", "--subscribe", "*", "--publish", "*"];
  const { stdout } = await run(process.env.FANFARE ?? here("target/debug/fanfare"), words);
  return { node, token: stdout.trim() };
}

/** Why a document is none, by its own linter. */
async function lint(document, text, place) {
  if (document === "openapi.json") {
    const path = join(place, document);
    await writeFile(path, text);
    await run(here("target/python-description/bin/openapi-spec-validator"), [path]);
  } else {
    const { diagnostics } = await new Parser().parse(text);
    // 0 is an error, 1 a warning.
    assert.deepEqual(diagnostics.filter(({ severity }) => severity <= 1), []);
  }
}

test("both documents are what their formats have them be, whatever the settings", async (t) => {
  const nodes = [await startNode(t), (await startSecured(t)).node];
  const place = await folder(t);
  for (const { url } of nodes) {
    for (const document of ["openapi.json", "asyncapi.json"]) {
      const answer = await fetch(`${url}/${document}`);
      assert.equal(answer.headers.get("content-type"), "application/json");
      await lint(document, await answer.text(), place);
    }
  }
});

// FANFARE_FUZZ_SECONDS=300 looks for longer.
const SECONDS = process.env.FANFARE_FUZZ_SECONDS ?? "15";

for (const [name, start] of [["with tokens", startSecured], ["without", async (t, flags) => ({ node: await startNode(t, flags) })]]) {
  test(`no request, right or wrong, gets what is not described, ${name}`, async (t) => {
    // A machine that is busy with other tests would refuse streams.
    const { node, token } = await start(t, ["--max-turn", "0s"]);
    const words = ["run", `${node.url}/openapi.json`, "--max-time", SECONDS, "--request-timeout", "60", "--no-color"];
    const environment = { ...process.env, SCHEMATHESIS_HOOKS: here("tests/description/hooks.py"), FANFARE_URL: node.url };
    if (token) {
      words.push("--header", `Authorization: Bearer ${token}`);
      environment.FANFARE_TOKEN = token;
    }
    const checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
      + "response_schema_conformance,unsupported_method,allow_header_conformance";
    words.push("--checks", checks);
    const options = { env: environment, cwd: await folder(t), maxBuffer: 16 << 20 };
    await run(here("target/python-description/bin/st"), words, options).catch(({ stdout, stderr }) => assert.fail(`${stdout}${stderr}`));
  });
}
