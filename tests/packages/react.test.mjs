// Does what docs/react.md says, word for word, from an empty folder to hearts in Chromium: `node --test tests/packages/`.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { PATIENCE_MS, folder, freePort, here, startChromium, startNode, until } from "./support.mjs";

const execute = promisify(execFile);

/** What `npm install` would do with a network: what was installed for this test, and the package as it would be published. */
async function install(app, packages) {
  const modules = join(app, "node_modules"), installed = here("tests/react/node_modules");
  await mkdir(join(modules, "fanfare"), { recursive: true });
  for (const name of await readdir(installed)) await symlink(join(installed, name), join(modules, name));
  const { dependencies, devDependencies } = JSON.parse(await readFile(join(app, "package.json"), "utf8"));
  // The linter has no part in what the page shows.
  const used = [...Object.keys({ ...dependencies, ...devDependencies }), ...packages].filter((name) => !/^@types\/|lint/.test(name));
  const { stdout } = await execute("npm", ["pack", "--silent", "--pack-destination", app], { cwd: here("packages/js") });
  await execute("tar", ["-xzf", join(app, stdout.trim()), "-C", join(modules, "fanfare"), "--strip-components=1"]);
  for (const name of used) assert.ok((await readdir(join(modules, name))).length > 0, `${name} is not installed`);
}

test("a reader of docs/react.md has hearts on the screen", { timeout: 2 * PATIENCE_MS }, async (t) => {
  const page = await readFile(here("docs/react.md"), "utf8");
  const blocks = [...page.matchAll(/```(\w*)\n(.*?)```/gs)].map(([, language, text]) => ({ language, text }));
  const [make, app, start, run] = blocks;
  assert.deepEqual(blocks.map(({ language }) => language), ["", "jsx", "", ""]);
  assert.ok(app.text.split("\n").filter((line) => line.trim() !== "").length < 15, "the user's own code");

  const [create, enter, first, ...installs] = make.text.trim().split("\n");
  const [, name, flags] = /^npm create vite@latest (\w+) -- (.*)$/.exec(create);
  assert.deepEqual([enter, first], [`cd ${name}`, "npm install"]);
  const where = await folder(t), project = join(where, name);
  await execute("node", [here("tests/react/node_modules/create-vite/index.js"), name, ...flags.split(" "), "--no-interactive"], { cwd: where });
  await install(project, installs.map((line) => /^npm install (\S+)$/.exec(line)[1]));

  // The page's ports may be taken.
  const port = await freePort();
  const [program, ...words] = start.text.trim().replace(":5173", `:${port}`).split(" ");
  assert.equal(program, "fanfare");
  const node = await startNode(t, words);
  assert.ok(app.text.includes('"http://127.0.0.1:8080"'));
  await writeFile(join(project, "src/App.jsx"), app.text.replace("http://127.0.0.1:8080", node.url));
  assert.equal(run.text.trim(), "npm run dev");
  const vite = spawn("npm", ["run", "dev", "--", "--port", String(port), "--strictPort"], { cwd: project, stdio: ["ignore", "ignore", "inherit"], detached: true });
  t.after(() => process.kill(-vite.pid, "SIGKILL"));
  const url = `http://localhost:${port}/`;
  await until("the app's page", () => fetch(url).then(({ ok }) => ok, (error) => String(error)));

  const browser = await startChromium(t);
  const complaints = [];
  const windows = await Promise.all([1, 2].map(async () => {
    const window = await (await browser.newContext()).newPage();
    window.on("pageerror", (error) => complaints.push(error.message));
    window.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
    await window.goto(url);
    return window;
  }));
  const viewers = () => fetch(`${node.url}/v1/topics/live:42/members`).then((response) => response.json());
  await until("both windows to watch", async () => (await viewers()).viewers === 2 || viewers());
  const [pressed, other] = windows.map((window) => window.getByRole("button"));
  await pressed.click();
  await other.getByText("♥ 1").waitFor({ timeout: PATIENCE_MS });
  await other.click();
  for (const heart of [pressed, other]) await heart.getByText("♥ 2").waitFor({ timeout: PATIENCE_MS });
  assert.deepEqual(complaints, []);
});
