// Follows one topic with the npm package `eventsource`, likes a video, and checks the event that comes back.
//
//   npm ci && node eventsource_client.mjs http://127.0.0.1:8080
//
// Exits 0 when the event came as the design says, 1 with a message otherwise.
import { randomUUID } from "node:crypto";
import { EventSource } from "eventsource";

const OVERALL_TIMEOUT_MS = 30_000;
const VIDEO = "7";
const TOPIC = `live:${VIDEO}`;

const base = process.argv[2]?.replace(/\/+$/, "");
const member = `eventsource-${randomUUID()}`;
let stage = "starting";

function end(message) {
  if (message) console.error(`eventsource_client: ${message}`);
  else console.log(`eventsource_client: ok, ${TOPIC} delivered the like of ${member}`);
  process.exit(message ? 1 : 0);
}

if (!base) end("usage: node eventsource_client.mjs BASE_URL");
setTimeout(() => end(`timed out after ${OVERALL_TIMEOUT_MS} ms while ${stage}`), OVERALL_TIMEOUT_MS);

/** What is wrong with a delivered event, as a list of sentences. */
function faults(event, answer) {
  const wrong = [];
  const expect = (what, got, ok, wanted) => { if (!ok) wrong.push(`${what} is ${JSON.stringify(got)}, not ${wanted}`); };
  expect("topic", event.topic, event.topic === TOPIC, TOPIC);
  expect("type", event.type, event.type === "like", '"like"');
  expect("key", event.key, event.key === "like", 'the reaction "like"');
  expect("count", event.count, event.count === 1, "1");
  expect("at", event.at, Number.isInteger(event.at) && event.at > 0, "a time in Unix milliseconds");
  expect("id", event.id, typeof event.id === "string" && event.id !== "", "a non-empty string");
  expect("data.reaction", event.data?.reaction, event.data?.reaction === "like", '"like"');
  expect("data.likes", event.data?.likes, Number.isInteger(event.data?.likes) && event.data.likes >= 1, "a count of at least 1");
  expect("the answer's likes", answer.likes, Number.isInteger(answer.likes) && answer.likes >= 1, "a count of at least 1");
  return wrong;
}

let answered;
const answer = new Promise((resolve) => { answered = resolve; });

async function like() {
  stage = "publishing a like";
  const response = await fetch(`${base}/v1/videos/${VIDEO}/likes`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ member, reaction: "like" }),
  });
  const body = await response.text();
  if (response.status !== 201) end(`the like was answered ${response.status}, not 201: ${body}`);
  stage = "waiting for the like's event";
  answered(JSON.parse(body));
}

stage = "connecting";
const source = new EventSource(`${base}/v1/events?topic=${encodeURIComponent(TOPIC)}`);
source.onerror = (error) => end(`the stream failed while ${stage}: ${error.code ?? ""} ${error.message ?? "no reason given"}`);

let connected = false;
source.addEventListener("connected", (message) => {
  const hello = JSON.parse(message.data);
  if (typeof hello.connection !== "string" || hello.connection === "") end(`connected names no connection: ${message.data}`);
  if (!Array.isArray(hello.pending)) end(`connected has no list of pending topics: ${message.data}`);
  if (connected) end("connected came twice on one stream");
  connected = true;
  like().catch((error) => end(`the like could not be sent: ${error.message}`));
});

source.onmessage = async (message) => {
  if (!connected) end(`an event came before connected: ${message.data}`);
  const event = JSON.parse(message.data);
  // Others may like the same video while this runs.
  if (event.data?.member !== member) return;
  const wrong = faults(event, await answer);
  end(wrong.length > 0 ? `${wrong.join("; ")}; the event was ${message.data}` : undefined);
};
