// Each package against the built program: `node --test tests/packages/`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { CLIENTS, ENVIRONMENT, startNode, until } from "./support.mjs";

for (const [name, [program, ...words]] of Object.entries(CLIENTS)) {
  test(`the package for ${name} loses nothing of a node that is started anew, and has topics and prefixes of them added`, async (t) => {
    const node = await startNode(t, ["--drain", "1s"]);
    const client = spawn(program, [...words, node.url, "live:1"], { env: ENVIRONMENT, stdio: ["pipe", "pipe", "inherit"] });
    t.after(() => client.kill("SIGKILL"));
    const lines = [], texts = () => lines.flatMap(({ event }) => event?.type === "comment" ? [event.data.text] : []);
    createInterface({ input: client.stdout }).on("line", (line) => lines.push(JSON.parse(line)));
    const open = (topic) => lines.findLast((line) => line.topic === topic)?.state === "open" || lines;
    const come = (expected) => until(`${expected}`, () => texts().length >= expected.length || lines).then(() => assert.deepEqual(texts(), expected));

    await until("an open stream", () => open("live:1"));
    await node.publish("live:1", "zażółć");
    await come(["zażółć"]);
    client.stdin.write('{"subscribe":"chat:2"}\n');
    await until("the added topic", () => open("chat:2"));
    await node.publish("chat:2", "added");
    client.stdin.write('{"subscribe":"room:crew.*"}\n');
    await until("the added prefix", () => open("room:crew.*"));
    await node.publish("room:crew.7", "of a prefix");
    await come(["zażółć", "added", "of a prefix"]);
    await node.end();
    await node.start();
    for (const topic of ["live:1", "chat:2", "room:crew.8"]) await node.publish(topic, `to ${topic}`);
    await come(["zażółć", "added", "of a prefix", "to live:1", "to chat:2", "to room:crew.8"]);
    assert.deepEqual(lines.filter(({ gap }) => gap), []);
  });
}
