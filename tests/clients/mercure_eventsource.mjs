// Follows topics by Mercure's protocol with the npm package `eventsource` on Node, runs a publisher once the stream is open, and prints
// what both say as JSON, a line each, until so many updates came.
//
//   node mercure_eventsource.mjs COUNT TOKEN_FILE 'http://127.0.0.1:8080/.well-known/mercure?topic=…' PUBLISHER ARGUMENT…
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { EventSource } from "eventsource";

const [count, tokenFile, url, publisher, ...words] = process.argv.slice(2);
const authorization = `Bearer ${(await readFile(tokenFile, "utf8")).trim()}`;
const print = (line) => console.log(JSON.stringify(line));

let left = Number(count) + 1;
const done = () => { if (--left === 0) process.exit(); };
const source = new EventSource(url, { fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, authorization } }) });
source.onopen = () => execFile(publisher, words, (error, stdout, stderr) => {
  if (error) {
    console.error(`${error} ${stderr}`);
    process.exit(1);
  }
  print({ answered: stdout.trim().split("\n") });
  done();
});
for (const name of ["message", "book"]) {
  source.addEventListener(name, ({ data, lastEventId }) => {
    print({ name, data, id: lastEventId });
    done();
  });
}
source.onerror = ({ message, code }) => { if (source.readyState === EventSource.CLOSED) throw new Error(`${code} ${message}`); };
