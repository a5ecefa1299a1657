// Numbers, times and names as people read them, and the elements that show them.

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Whole up to 9,999, then with three digits: 12.3 k. @param {number} number */
export function count(number) {
  if (!Number.isFinite(number)) return "–";
  if (Math.abs(number) < 10_000) return number.toLocaleString("en", { maximumFractionDigits: Math.abs(number) < 10 ? 1 : 0 });
  return number.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 }).replace(/([KMBT])$/, " $1").replace("K", "k");
}

/** @param {number} number */
export function bytes(number) {
  let size = 0;
  for (; number >= 1_000 && size < SIZES.length - 1; size++) number /= 1_024;
  return `${number.toLocaleString("en", { maximumFractionDigits: number < 10 && size > 0 ? 1 : 0 })} ${SIZES[size]}`;
}

/** @param {number | null | undefined} us */
export function time(us) {
  if (us === null || us === undefined) return "–";
  const digits = (/** @type {number} */ value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
  if (us < 1_000) return `${digits(us)} µs`;
  if (us < 1_000_000) return `${digits(us / 1_000)} ms`;
  return `${digits(us / 1_000_000)} s`;
}

/** A long time: 3 d 4 h. @param {number} seconds */
export function age(seconds) {
  seconds = Math.max(0, Math.floor(seconds));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds / 3_600) % 24} h`;
}

/** @param {number} ms */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour12: false });
}

/** The first characters tell nodes apart. @param {string} id */
export const short = (id) => id.slice(0, 6);

/** @param {number} number @param {string} one @param {string} [many] */
export const several = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Names of figures in words; others are shown as they are. */
export const NAMES = /** @type {Record<string, string>} */ ({
  gaps: "gaps told to viewers", link_failures: "failed links to nodes", store_errors: "errors of the database",
  accept_errors: "failed accepts", left_in_outbox: "posts not published at once", timeouts: "requests that took too long",
  rejected_requests: "requests answered 4xx or 5xx", merged: "events merged for slow readers",
});

/** The way to a checkpoint from the one before. */
export const HOPS = /** @type {Record<string, string>} */ ({
  published: "sent by the publisher", read: "request read", stored: "in the database", dispatched: "taken by a dispatcher", history: "in history",
  sent: "sent to a node", taken: "taken there", ordered: "in its order", first_write: "first viewer written", last_write: "last viewer written",
});

/**
 * An element with properties, or attributes where a name has a dash or an element of SVG wants them, and what is in it.
 * @param {string} tag @param {Record<string, any>} [properties] @param {...(Node | string | null)} inside
 */
export function el(tag, properties = {}, ...inside) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length > 0) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) element.setAttribute(key, value);
    else /** @type {any} */ (element)[key] = value;
  }
  element.append(...inside.filter((part) => part !== null));
  return element;
}

/** @param {string} name @param {Record<string, string | number>} attributes @param {...Node} inside */
export function svg(name, attributes, ...inside) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...inside);
  return element;
}

/** Sets a text only where it is another: whoever selects it is not disturbed. @param {Element} element @param {string} text */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Shows a list. What was shown of an item before, by its key, is changed and not made anew, so that what has the focus keeps it.
 * @template T
 * @param {Element} parent @param {T[]} items @param {(item: T) => string} key
 * @param {(item: T) => {element: Element, show: (item: T) => void}} make
 */
export function list(parent, items, key, make) {
  const known = /** @type {any} */ (parent);
  /** @type {Map<string, {element: Element, show: (item: T) => void}>} */
  const before = known.shown ?? new Map(), now = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const shown = before.get(key(item)) ?? make(item);
    before.delete(key(item));
    now.set(key(item), shown);
    shown.show(item);
    if (shown.element === place) place = place.nextElementSibling;
    else parent.insertBefore(shown.element, place);
  }
  for (const gone of before.values()) gone.element.remove();
  known.shown = now;
}
