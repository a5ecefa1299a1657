// What TypeScript lets users of the package do, and what it does not.
import { type Event, type Subscription, connect } from "../../packages/js/types";

const connection = connect("https://live.example", { token: async () => "token", sample: 0, share: false });
const live: Subscription = connection.subscribe("live:42", { types: ["like"], from: -100 });
const off: () => void = live.on("event", ({ id, count = 1 }: Event) => id.repeat(count));
live.on("gap", ({ topic, after }) => topic + (after?.length ?? 0));
live.on("state", ({ state, status }) => state === "closed" && status === 403);
connection.on("bye", ({ reason }) => reason === "drain");
connection.subscribe("live:42", { from: new Date(0) });
off();

// @ts-expect-error: a subscription is told of no farewell.
live.on("bye", () => {});
// @ts-expect-error: there is no such state.
live.on("state", ({ state }) => state === "refused");
// @ts-expect-error: a text that is no place.
connection.subscribe("live:42", { from: "yesterday" });
