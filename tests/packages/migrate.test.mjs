// Does what stands under "After" on the pages of docs/migrate, word for word, in an empty folder and in Chromium: `node --test tests/packages/`.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { delimiter, join, resolve } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { PATIENCE_MS, folder, freePort, here, until } from "./support.mjs";

/** Commands that go on until they are ended, and where each answers once it is there. */
const SERVERS = { "fanfare --config": "http://127.0.0.1:8080/v1/time", "python3 -m http.server": "http://127.0.0.1:3000/" };

/**
 * What a reader does, in its order: opens the address behind "Open", writes a block into the file that the line before it names, runs a block of a
 * shell, looks for the lines of a block of text.
 */
function stepsOf(page) {
  const [after] = /^## After\n.*?(?=^## )/ms.exec(page);
  const steps = [...after.matchAll(/^([^\n]*)\n\n```(\w+)\n(.*?)^```$/gms)].flatMap(([, before, language, block]) => {
    const [, url] = /^Open <(.*?)>/.exec(before) ?? [], [, file] = /`([\w./]+\.\w+)`/.exec(before) ?? [];
    const step = language === "sh" ? { run: block } : language === "text" ? { shown: block } : { file, block };
    return url ? [{ url }, step] : [step];
  });
  assert.equal(steps.filter(({ url }) => !url).length, after.match(/^```\w+$/gm).length, "a block is passed over");
  assert.equal(steps.filter(({ url }) => url).length, 1);
  return steps;
}

/** It ends with the test. Gives what it complained of, for the case that it does not come up. */
function startServer(t, program, words, options) {
  const child = spawn(program, words, { ...options, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.on("error", (error) => { said += error; });
  child.stderr.on("data", (bytes) => { said = (said + bytes).slice(-4_000); });
  t.after(async () => {
    if (!child.pid || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  });
  return () => said;
}

const answers = (url, said) => until(url, () => fetch(url).then(({ ok, status }) => ok || status, (error) => `${error} ${said()}`));

/** An nginx with the server of the page, and with what every nginx has around it. */
async function startNginx(t, where, server, url) {
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${join(where, name)};`);
  await writeFile(join(where, "nginx.conf"), `
    daemon off; master_process off; pid ${join(where, "pid")}; error_log stderr; events {}
    http { ${paths.join(" ")} access_log off; include ${server}; }`);
  await answers(url, startServer(t, "nginx", ["-e", "stderr", "-p", where, "-c", join(where, "nginx.conf")]));
}

async function openWindow(t, url) {
  const { chromium } = await import(new URL(`file://${here("tests/browser/node_modules/playwright-core/index.mjs")}`));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  });
  t.after(() => browser.close());
  const window = await (await browser.newContext()).newPage(), complaints = [];
  window.on("pageerror", (error) => complaints.push(error.message));
  // Browsers ask for an icon, whatever the page says.
  const isOfPage = (message) => ["error", "warning"].includes(message.type()) && !message.location().url.endsWith("/favicon.ico");
  window.on("console", (message) => { if (isOfPage(message)) complaints.push(message.text()); });
  await window.goto(url);
  return { window, complaints };
}

for (const name of await readdir(here("docs/migrate"))) {
  test(`a reader of docs/migrate/${name} sees what is published`, { timeout: 3 * PATIENCE_MS }, async (t) => {
    const steps = stepsOf(await readFile(here(`docs/migrate/${name}`), "utf8")), where = await folder(t);
    // The page's ports may be taken, and its folder is one that only root has.
    const ports = { 8080: await freePort(), 8081: await freePort(), 3000: await freePort() };
    const moved = (words) => words.replace(/(?<=127\.0\.0\.1[: ])\d+\b/g, (port) => ports[port]).replaceAll("/srv/www", join(where, "www"));
    for (const name of ["bin", "www"]) await mkdir(join(where, name));
    await symlink(resolve(process.env.FANFARE ?? here("target/debug/fanfare")), join(where, "bin/fanfare"));
    const listen = { FANFARE_LISTEN: `127.0.0.1:${ports[8080]}`, FANFARE_INTERNAL: `127.0.0.1:${ports[8081]}`, FANFARE_CORES: "1" };
    const options = { cwd: where, env: { ...process.env, ...listen, PATH: [join(where, "bin"), process.env.PATH].join(delimiter) } };

    let opened;
    for (const { file, block, run, url, shown } of steps) {
      if (file) {
        await writeFile(resolve(where, moved(file)), moved(block));
        continue;
      }
      if (url) {
        const server = steps.find((step) => step.file?.endsWith(".conf"));
        if (server) await startNginx(t, where, join(where, server.file), moved(url));
        opened = await openWindow(t, moved(url));
        continue;
      }
      if (shown) {
        const shows = (line) => opened.window.getByText(line, { exact: true }).waitFor({ timeout: PATIENCE_MS });
        for (const line of shown.trimEnd().split("\n")) await shows(line).catch((error) => assert.fail(`${error} ${opened.complaints}`));
        continue;
      }
      const lines = moved(run).trimEnd().split("\n"), server = Object.keys(SERVERS).find((start) => lines.at(-1).startsWith(start));
      const stays = server && lines.pop();
      const { stdout } = await promisify(execFile)("bash", ["-ec", lines.join("\n")], options);
      // What is printed is what a publisher is answered: an id, by Mercure's protocol as it is.
      if (stdout && !/^urn:uuid:[\da-f-]{36}$/.test(stdout)) assert.deepEqual(Object.keys(JSON.parse(stdout)), ["id"], stdout);
      if (server) await answers(moved(SERVERS[server]), startServer(t, "bash", ["-c", `exec ${stays}`], options));
    }
    assert.deepEqual(opened.complaints, []);
  });
}
