// Follows a stream in a browser as it is installed, without a driver: the browser is given a page that reports what it hears,
// which is printed as JSON, a line each.
//
//   node browser.mjs chromium|firefox|webkit 'http://127.0.0.1:8080/v1/events?topic=live:42' '{"who":"way"}' [TOKEN_FILE]
//
// With BROWSER_AUTHORITY the browser trusts whom this certificate vouches for. Ends with its standard input.
import { execFileSync, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [browser, url, followers, tokenFile] = process.argv.slice(2);
const here = (path) => new URL(path, import.meta.url);

/** A module as a browser asks for it, or with the `.js` that bundlers add. */
async function module(path) {
  const file = here(`node_modules/${path}`);
  return readFile(file).catch(() => readFile(new URL(`${file}.js`)));
}

/** What of docs/first-steps.md a page is to contain: its only JavaScript that makes an EventSource. */
async function readme() {
  const blocks = [...(await readFile(here("../../docs/first-steps.md"), "utf8")).matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code);
  const ours = blocks.filter((code) => code.includes("new EventSource("));
  if (ours.length !== 1) throw new Error(`first-steps.md has ${ours.length} ways to make an EventSource`);
  return ours[0];
}

const SCRIPT = "text/javascript";
const answers = {
  "/": () => ["text/html", '<!doctype html><meta charset="utf-8"><script type="module" src="/page.js"></script>'],
  "/page.js": async () => [SCRIPT, await readFile(here("page.js"))],
  "/readme.js": async () => [SCRIPT, await readme()],
  "/plan": () => ["application/json", JSON.stringify({ followers: JSON.parse(followers), url, token: tokenFile !== undefined })],
  "/token": async () => ["text/plain", await readFile(tokenFile, "utf8")],
};

const server = createServer(async (request, response) => {
  if (request.method === "POST") {
    const parts = [];
    for await (const part of request) parts.push(part);
    console.log(Buffer.concat(parts).toString());
    return response.end();
  }
  try {
    const path = new URL(request.url, "http://page").pathname;
    const [type, body] = path.startsWith("/modules/") ? [SCRIPT, await module(path.slice(9))] : await answers[path]();
    response.writeHead(200, { "Content-Type": type, "Cache-Control": "no-store" }).end(body);
  } catch (error) {
    response.writeHead(404).end(String(error));
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const page = `http://127.0.0.1:${server.address().port}/`;

const folder = await mkdtemp(join(tmpdir(), "browser-"));
await writeFile(join(folder, "user.js"), [
  'user_pref("browser.shell.checkDefaultBrowser", false);',
  'user_pref("datareporting.policy.dataSubmissionEnabled", false);',
  'user_pref("browser.aboutwelcome.enabled", false);',
  // Other tests make network links, upon which Firefox ends what is quiet for 5 s.
  'user_pref("network.notify.changed", false);',
].join("\n"));
const authority = process.env.BROWSER_AUTHORITY;
if (authority) {
  // Firefox keeps whom it trusts in its profile, Chromium in the home, where depends on its age.
  for (const database of [folder, join(folder, ".pki/nssdb"), join(folder, ".local/share/pki/nssdb")]) {
    await mkdir(database, { recursive: true });
    execFileSync("certutil", ["-d", `sql:${database}`, "-N", "--empty-password"]);
    execFileSync("certutil", ["-d", `sql:${database}`, "-A", "-n", "test", "-t", "C,,", "-i", authority]);
  }
}
// WebKit trusts whom the machine trusts, of which it sees another list then.
const trusting = ["unshare", "--map-root-user", "--mount", "sh", "-c",
  'mount --bind "$1" /etc/ssl/certs/ca-certificates.crt && shift && exec "$@"', "sh", authority];
const commands = {
  chromium: ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", `--user-data-dir=${folder}`, page],
  firefox: ["firefox-esr", "--headless", "--no-remote", "--profile", folder, page],
  webkit: [...(authority ? trusting : []), "cog", "-P", "headless", page],
};
const [program, ...words] = commands[browser];
const child = spawn(program, words, {
  stdio: ["ignore", "ignore", "pipe"],
  env: { ...process.env, HOME: folder, XDG_RUNTIME_DIR: folder },
  detached: true,
});
let complaints = "";
child.stderr.on("data", (bytes) => { complaints = (complaints + bytes).slice(-4_000); });
let ending = false;
async function end() {
  if (ending) return;
  ending = true;
  try { process.kill(-child.pid, "SIGKILL"); } catch { /* it is gone */ }
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  process.exit();
}
child.on("error", (error) => { console.error(`${program}: ${error}`); process.exitCode = 1; end(); });
child.on("exit", () => { if (!ending) console.error(`${program} ended\n${complaints}`), process.exitCode = 1, end(); });
process.stdin.on("end", end).resume();
