// The package as `packages/conformance/run` drives it; docs/conformance.md says what is written and printed.
//
//   node conformance.mjs URL TOPIC… [--token URL]
import { createInterface } from "node:readline";
import { connect } from "./fanfare.js";

const [url, ...words] = process.argv.slice(2);
const flag = words.indexOf("--token"), [, tokenUrl] = flag < 0 ? [] : words.splice(flag);
const print = (line) => console.log(JSON.stringify(line));

const connection = connect(url, { token: tokenUrl && (async () => (await fetch(tokenUrl)).text()) });
const subscriptions = new Map();
function subscribe(topic) {
  const subscription = connection.subscribe(topic);
  subscriptions.set(topic, subscription);
  subscription.on("event", (event) => print({ event }));
  subscription.on("gap", (gap) => print({ gap }));
  subscription.on("state", ({ state, status, detail }) => print({ state, topic, status, detail }));
}
words.forEach(subscribe);

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  if (command.subscribe) subscribe(command.subscribe);
  if (command.unsubscribe) subscriptions.get(command.unsubscribe).close();
  if (command.close) connection.close();
});
lines.on("close", () => process.exit());
