// What the packages' tests share: a node of the built program, and how each package is driven.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const here = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** How `packages/conformance/run` and these tests start each client. */
export const CLIENTS = {
  javascript: ["node", here("packages/js/conformance.mjs")],
  python: [here("target/python/bin/python3"), here("packages/python/conformance.py")],
};
export const ENVIRONMENT = { ...process.env, PYTHONPATH: here("packages/python"), PYTHONDONTWRITEBYTECODE: "1" };

/** Generous: a test waits for what it names, and ends at once when that is there. */
export const PATIENCE_MS = 60_000;

export async function until(what, look) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (seen === true) return;
    if (Date.now() > deadline) assert.fail(`waited for ${what}; last seen: ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Chromium without a screen, for the length of a test. */
export async function startChromium(t) {
  const { chromium } = await import(new URL(`file://${here("tests/browser/node_modules/playwright-core/index.mjs")}`));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  });
  t.after(() => browser.close());
  return browser;
}

/** A folder for the length of a test. */
export async function folder(t) {
  const path = await mkdtemp(join(tmpdir(), "packages-"));
  t.after(() => rm(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

/** A node on a port of its own, which may be ended and started anew. */
export async function startNode(t, flags = []) {
  /** @type {import("node:child_process").ChildProcess | undefined} */
  let child;
  // Before its folder goes.
  t.after(() => node.end());
  const [port, internal, database] = [await freePort(), await freePort(), join(await folder(t), "fanfare.db")];
  const url = `http://127.0.0.1:${port}`;
  const node = {
    url,
    /** What only operators ask. */
    internal: `http://127.0.0.1:${internal}`,
    async start() {
      const words = ["--listen", `127.0.0.1:${port}`, "--internal", `127.0.0.1:${internal}`, "--db", `sqlite:${database}`];
      const program = process.env.FANFARE ?? here("target/debug/fanfare");
      child = spawn(program, [...words, "--cores", "1", ...flags], { stdio: ["ignore", "ignore", "pipe"] });
      let said = "";
      child.on("error", (error) => { said += error; });
      child.stderr.on("data", (bytes) => { said = (said + bytes).slice(-4_000); });
      await until("the node", () => fetch(`${url}/v1/time`).then(({ ok }) => ok, () => said));
    },
    async end() {
      if (!child?.pid || child.exitCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    },
    async publish(topic, text) {
      const body = JSON.stringify({ type: "comment", data: { text } });
      const response = await fetch(`${url}/v1/topics/${topic}/events`, { method: "POST", body });
      assert.equal(response.status, 202, await response.text());
    },
  };
  await node.start();
  return node;
}
