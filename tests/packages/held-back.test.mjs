// The package for JavaScript where a proxy holds streams back: `node --test tests/packages/`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { CLIENTS, ENVIRONMENT, PATIENCE_MS, folder, freePort, startNode, until } from "./support.mjs";

/** nginx as it is without a thought for streams, and deaf to a server that asks it not to hold them back. */
async function startNginx(t, to) {
  const where = await folder(t), port = await freePort();
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${join(where, name)};`);
  await writeFile(join(where, "nginx.conf"), `
    daemon off; master_process off; pid ${join(where, "pid")}; error_log stderr; events { worker_connections 1024; }
    http {
      ${paths.join(" ")} access_log off; gzip on;
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass ${to}; proxy_http_version 1.0; proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;
          proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
        }
      }
    }`);
  const child = spawn("nginx", ["-e", "stderr", "-p", where, "-c", join(where, "nginx.conf")], { stdio: ["ignore", "ignore", "inherit"] });
  t.after(async () => {
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  });
  const url = `http://127.0.0.1:${port}`;
  await until("nginx", () => fetch(`${url}/v1/time`).then(({ ok }) => ok, (error) => String(error)));
  return url;
}

test("behind an nginx that holds streams back each comment is shown, once and in order", { timeout: 4 * PATIENCE_MS }, async (t) => {
  const node = await startNode(t);
  const url = await startNginx(t, node.url);
  const [program, ...words] = CLIENTS.javascript;
  const client = spawn(program, [...words, url, "live:1"], { env: ENVIRONMENT, stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => client.kill("SIGKILL"));
  const lines = [], texts = () => lines.flatMap(({ event }) => event?.type === "comment" ? [event.data.text] : []);
  createInterface({ input: client.stdout }).on("line", (line) => lines.push(JSON.parse(line)));
  const sent = [];
  const publish = async (topic) => {
    sent.push(`${topic} ${sent.length}`);
    await node.publish(topic, sent.at(-1));
  };
  // Such as come before it polls, while a poll waits, and between two.
  await until("comments that are shown", async () => {
    await publish("live:1");
    return texts().length >= 3 || lines;
  });
  const first = sent.indexOf(texts()[0]);
  for (let number = 0; number < 100; number++) await publish("live:1");
  await until("a hundred more", () => texts().length >= sent.length - first || texts().at(-1));
  client.stdin.write('{"subscribe":"chat:2"}\n');
  await until("the added topic", () => lines.findLast(({ topic }) => topic === "chat:2")?.state === "open" || lines.at(-1));
  for (let number = 0; number < 50; number++) await publish(number % 2 ? "live:1" : "chat:2");
  await until("fifty more", () => texts().length >= sent.length - first || texts().at(-1));
  // Each topic has an order of its own.
  const of = (all, topic) => all.filter((text) => text.startsWith(topic));
  for (const topic of ["live:1", "chat:2"]) assert.deepEqual(of(texts(), topic), of(sent.slice(first), topic));
  const states = lines.filter(({ topic }) => topic === "live:1").map(({ state }) => state);
  assert.deepEqual(states, ["open"]);
  // A node that has begun a moment ago does not know what was before.
  const firstShown = lines.findIndex(({ event }) => event?.type === "comment");
  assert.ok(lines.every(({ gap }, line) => !gap || line < firstShown), "a gap");
  // The proxy hears a moment later than the client's next poll that the client gave one up, and what is told of viewers is
  // up to a second old; a stream that was left behind would be counted for good.
  await until("no stream to be left behind", async () => {
    const { viewers } = await fetch(`${node.url}/v1/topics/live:1/members`).then((response) => response.json());
    return viewers <= 1 || viewers;
  });
});
