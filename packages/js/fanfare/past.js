// What history has of a topic, for who subscribes from a place in the past.
import { backoff, passing, sleep } from "./server.js";

/**
 * @typedef {import("../types.d.ts").Event} Event
 * @typedef {import("../types.d.ts").From} From
 */

/** The server lists no more at once. */
const PAGE_MAX = 200;
/** More than this is no stream's beginning, and would be held in memory. */
const EVENTS_MAX = 10_000;

/** @param {From} from @returns {{count: number, since: number}} */
export function start(from) {
  if (from === "earliest") return { count: EVENTS_MAX, since: 0 };
  const number = Number(from);
  if (!Number.isFinite(number)) throw new RangeError(`"from" must be "earliest", -100 (events) or a time, not ${from}`);
  return number < 0 ? { count: Math.min(EVENTS_MAX, -number), since: 0 } : { count: EVENTS_MAX, since: number };
}

/**
 * Reads from the newest event back to where it is to begin. Gives the events in their order; `whole` false says that some
 * may be missing, since they were too many or history could not be had.
 * @param {import("./server.js").Server} server @param {string} topic @param {From} from
 * @param {() => boolean} wanted whether anybody still waits
 * @returns {Promise<{events: Event[], whole: boolean}>}
 */
export async function past(server, topic, from, wanted) {
  const { count, since } = start(from);
  /** @type {(Event & {position: string})[]} */
  let found = [];
  for (let tries = 0; wanted();) {
    const before = found.length > 0 ? `&before=${encodeURIComponent(found[0].position)}` : "";
    const limit = Math.min(PAGE_MAX, count - found.length);
    const answer = await server.get(`/v1/topics/${encodeURIComponent(topic)}/events?limit=${limit}${before}`);
    if (answer.body === null) {
      if (!passing(answer.status)) return { events: found, whole: false };
      await sleep(Math.max(answer.retryMs, backoff(tries++)));
      continue;
    }
    const { events, more } = answer.body;
    found = [...events, ...found];
    const enough = found.length >= count || (found.length > 0 && found[0].at < since);
    if (enough || !more || events.length === 0) {
      return { events: found.filter(({ at }) => at >= since), whole: !more || count < EVENTS_MAX || found[0].at < since };
    }
  }
  return { events: [], whole: true };
}

/**
 * Reads what came behind a place. Gives the events in their order; `whole` false says that some may be missing.
 * @param {import("./server.js").Server} server @param {string} topic @param {string} place
 * @returns {Promise<{events: Event[], whole: boolean}>}
 */
export async function missed(server, topic, place) {
  /** @type {Event[]} */
  const found = [];
  for (let after = place; found.length < EVENTS_MAX;) {
    const path = `/v1/topics/${encodeURIComponent(topic)}/events?limit=${PAGE_MAX}&after=${encodeURIComponent(after)}`;
    const { events = [], more, gap } = (await server.get(path)).body ?? { gap: true };
    for (const { position, ...event } of events) {
      after = position;
      found.push(event);
    }
    if (gap) return { events: found, whole: false };
    if (!more || events.length === 0) return { events: found, whole: true };
  }
  return { events: found, whole: false };
}
