// Firefox without a driver: its own remote protocol, Marionette, over a socket. Just enough to open pages and look into them.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

const START_TIMEOUT_MS = 60_000;

const PREFERENCES = {
  "marionette.port": 0,
  "browser.shell.checkDefaultBrowser": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "toolkit.telemetry.enabled": false,
  "app.update.disabledForTesting": true,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  // Other tests make network links, upon which Firefox ends what is quiet for 5 s.
  "network.notify.changed": false,
};

/** One connection to Marionette: `length:[0, id, command, parameters]` there, `length:[1, id, error, result]` back. */
class Marionette {
  #socket;
  #waiting = new Map();
  #next = 1;
  #received = Buffer.alloc(0);

  constructor(socket) {
    this.#socket = socket;
    socket.on("data", (data) => this.#read(data));
    socket.on("close", () => this.#waiting.forEach(({ reject }) => reject(new Error("Firefox has gone"))));
    socket.on("error", () => {});
  }

  #read(data) {
    this.#received = Buffer.concat([this.#received, data]);
    for (;;) {
      const colon = this.#received.indexOf(":");
      const end = colon + 1 + Number(this.#received.subarray(0, Math.max(colon, 0)).toString());
      if (colon < 0 || this.#received.length < end) return;
      const message = JSON.parse(this.#received.subarray(colon + 1, end).toString());
      this.#received = this.#received.subarray(end);
      // The first message is a greeting.
      if (!Array.isArray(message)) continue;
      const [, id, error, result] = message, waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new Error(`${error.error}: ${error.message}`));
      else waiting?.resolve(result);
    }
  }

  send(command, parameters = {}) {
    const id = this.#next++, text = Buffer.from(JSON.stringify([0, id, command, parameters]));
    this.#socket.write(Buffer.concat([Buffer.from(`${text.length}:`), text]));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}

/** Firefox with a profile of its own, that takes any certificate. FIREFOX names another one than Debian's. */
export async function launch() {
  const profile = await mkdtemp(join(tmpdir(), "firefox-"));
  const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
  await writeFile(join(profile, "user.js"), lines.join(""));
  const browser = spawn(process.env.FIREFOX ?? "firefox-esr", ["--headless", "--marionette", "--no-remote", "--profile", profile], {
    stdio: "ignore", env: { ...process.env, HOME: profile, MOZ_CRASHREPORTER_DISABLE: "1" },
  });
  const ended = once(browser, "exit");
  const close = async () => {
    browser.kill("SIGKILL");
    await ended;
    await rm(profile, { recursive: true, force: true, maxRetries: 10 });
  };
  try {
    const deadline = Date.now() + START_TIMEOUT_MS;
    let port;
    while (!(port = Number(await readFile(join(profile, "MarionetteActivePort"), "utf8").catch(() => "")))) {
      if (Date.now() > deadline || browser.exitCode !== null) throw new Error("Firefox does not start");
      await sleep(50);
    }
    const socket = connect(port, "127.0.0.1");
    await once(socket, "connect");
    const marionette = new Marionette(socket);
    await marionette.send("WebDriver:NewSession", { acceptInsecureCerts: true });
    return {
      goto: (url) => marionette.send("WebDriver:Navigate", { url }),
      /** The value of an expression, in the page. */
      evaluate: async (expression) => (await marionette.send("WebDriver:ExecuteScript", { script: `return (${expression});`, sandbox: null })).value,
      close,
    };
  } catch (problem) {
    await close();
    throw problem;
  }
}
