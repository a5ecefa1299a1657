// Follows a stream with the npm package `eventsource` on Node, and prints what it hears as JSON, a line each.
//
//   node npm_eventsource.mjs WHO 'http://127.0.0.1:8080/v1/events?topic=live:42' [TOKEN_FILE]
import { readFile } from "node:fs/promises";
import { EventSource } from "eventsource";

const [who, url, tokenFile] = process.argv.slice(2);
const print = (line) => console.log(JSON.stringify({ who, ...line }));
const address = tokenFile ? url : `${url}&member=${who}`;

let last = "";
(function follow() {
  const source = new EventSource(`${address}&last_event_id=${last}`, {
    fetch: async (input, init) => {
      const authorization = tokenFile ? { Authorization: `Bearer ${await readFile(tokenFile, "utf8")}` } : {};
      return fetch(input, { ...init, headers: { ...init.headers, ...authorization } });
    },
  });
  for (const name of ["connected", "gap", "bye", "token", "message"]) {
    source.addEventListener(name, ({ data, lastEventId }) => {
      last = lastEventId;
      print({ name, id: lastEventId, data });
    });
  }
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    print({ own: true });
    setTimeout(follow, 1_000 + 1_000 * Math.random());
  };
})();
process.stdin.on("end", () => process.exit()).resume();
