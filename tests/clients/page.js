// Follows one stream in a browser by each way that this page is told to, and reports what it hears.
const { followers, url, token } = await (await fetch("/plan")).json();

/** Where the stream is, with the token of this moment where there is one. */
const tokenNow = async () => token && (await fetch("/token")).text();
let fresh = await tokenNow();
setInterval(async () => { fresh = await tokenNow(); }, 250);
const as = (who) => `${url}${token ? "" : `&member=${who}`}`;
const query = () => (fresh ? `&access_token=${fresh}` : "");
const headers = () => (fresh ? { Authorization: `Bearer ${fresh}` } : {});

let sending = Promise.resolve();
const report = (line) => {
  sending = sending.then(() => fetch("/report", { method: "POST", body: JSON.stringify(line) }));
};
const hearing = (who) => (message) =>
  report({ who, name: message.type ?? message.event, id: message.lastEventId ?? message.id, data: message.data });
const own = (who) => report({ who, own: true });
const again = (act) => setTimeout(act, 1_000 + 1_000 * Math.random());
const NAMES = ["connected", "gap", "bye", "token", "message"];

const ways = {
  // The lines of docs/first-steps.md, with the stream's address and what is done with a message for those that stand there.
  async eventsource(who) {
    const replaced = [
      [`"/v1/events?topic=live:42&last_event_id="`, `address() + "&last_event_id="`],
      [`console.log(JSON.parse(message.data))`, `heard(message)`],
      [`{ last = message.lastEventId; });`, `{ last = message.lastEventId; heard(message); });`],
      [`setTimeout(follow,`, `own(), setTimeout(follow,`],
      [`stream.onerror`, `for (const name of ["gap", "bye", "token"]) stream.addEventListener(name, heard); stream.onerror`],
    ];
    let code = await (await fetch("/readme.js")).text();
    for (const [from, to] of replaced) {
      if (code.split(from).length !== 2) throw new Error(`the page's lines have no ${from}: ${code}`);
      code = code.replace(from, to);
    }
    new Function("address", "heard", "own", code)(() => as(who) + query(), hearing(who), () => own(who));
  },

  async fanfare(who) {
    const { connect } = await import(`${new URL(url).origin}/fanfare.js`);
    const address = new URL(url);
    const member = token ? undefined : who;
    const stream = connect(address.origin, { member, token: token ? tokenNow : undefined });
    for (const topic of address.searchParams.getAll("topic")) stream.subscribe(topic);
    for (const name of ["connected", "gap", "bye", "token"]) stream.on(name, (data) => report({ who, name, data: JSON.stringify(data) }));
    stream.on("event", (event) => report({ who, name: "message", data: JSON.stringify(event) }));
  },

  async "fetch-event-source"(who) {
    const { fetchEventSource } = await import("/modules/@microsoft/fetch-event-source/lib/esm/index.js");
    fetchEventSource(as(who), {
      openWhenHidden: true,
      fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers() } }),
      onmessage: (message) => hearing(who)({ ...message, event: message.event || "message" }),
      onclose() { own(who); throw new Error("the stream ended"); },
    });
  },

  async "event-source-polyfill"(who) {
    await import("/modules/event-source-polyfill/src/eventsource.min.js");
    let last = "";
    (function follow() {
      const source = new globalThis.EventSourcePolyfill(`${as(who)}&last_event_id=${last}`, { headers: headers() });
      const heard = hearing(who);
      for (const name of NAMES) source.addEventListener(name, (message) => { last = message.lastEventId; heard(message); });
      source.onerror = () => { if (source.readyState === 2) own(who), again(follow); };
    })();
  },

  async "reconnecting-eventsource"(who) {
    const { default: ReconnectingEventSource } = await import("/modules/reconnecting-eventsource/build/esm/reconnecting-eventsource.js");
    let last = "";
    (function follow() {
      const source = new ReconnectingEventSource(as(who) + query(), { lastEventId: last });
      const heard = hearing(who);
      for (const name of NAMES) source.addEventListener(name, (message) => {
        last = message.lastEventId;
        heard(message);
        // It would come back with the token that just ended, for ever.
        if (name === "bye" && JSON.parse(message.data).reason === "token") source.close(), own(who), again(follow);
      });
    })();
  },
};

for (const [who, way] of Object.entries(followers)) ways[way](who).catch((error) => report({ who, failed: String(error) }));
