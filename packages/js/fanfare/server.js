// Requests to a server, with the token that they need.

/**
 * @typedef {import("../types.d.ts").Options} Options
 * @typedef {{status: number, detail: string, retryMs: number, body: any}} Answer `status` 0: there was none; `body`: the JSON
 *   of a 200, else null
 */

const BACKOFF_MS = 2_000;
const BACKOFF_MS_MAX = 30_000;
const REQUEST_MS_MAX = 15_000;
const TOKEN_MS = 10_000;

/** Full jitter: a crowd that was cut together comes back spread over the whole time. @param {number} attempt */
export const backoff = (attempt) => Math.random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** attempt);

/** Whether the same request may succeed later. @param {number} status */
export const passing = (status) => status === 0 || status === 408 || status === 425 || status === 429 || status >= 500;

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {string} text @returns {any} an object, or null */
export function parse(text) {
  let value;
  try { value = JSON.parse(text); } catch { /* not ours */ }
  return typeof value === "object" ? value : null;
}

/** @param {Response} response @returns {Promise<Answer>} */
export async function answerOf(response) {
  const body = parse(await response.text().catch(() => ""));
  // Seconds or a date (RFC 9110, 10.2.3). Another origin's is hidden from scripts unless the server exposes it.
  const after = response.headers.get("Retry-After") ?? "0";
  const retryMs = /^\d+$/.test(after) ? Number(after) * 1_000 : Date.parse(after) - Date.now();
  const detail = body?.detail ?? body?.title ?? `The server answered ${response.status}.`;
  return { status: response.status, detail, retryMs: retryMs > 0 ? retryMs : 0, body: response.ok ? body : null };
}

/** What a token says; of one that cannot be read nothing is known. @param {string} token @returns {any} */
function claimsOf(token) {
  try {
    return parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
  } catch {
    return null;
  }
}

export class Server {
  /** @type {Options} */ #options;
  /** @type {string} */ #base;
  /** @type {string | undefined} */ #token;
  /** What it says. @type {any} */ #claims = null;
  /** One that was refused for good. @type {string | undefined} */ #refused;
  /** @type {Promise<string> | undefined} */ #asking;
  /** @type {() => void} */ #changed;

  /** @param {string} url @param {Options} options @param {() => void} changed called when there is another token */
  constructor(url, options, changed) {
    this.#options = options;
    this.#base = url.replace(/\/+$/, "");
    this.#changed = changed;
    if (typeof options.token === "string") this.#take(options.token);
  }

  get base() { return this.#base; }

  /** @param {string} token */
  #take(token) {
    this.#token = token;
    this.#claims = claimsOf(token);
    return token;
  }

  /** Whether the token has ended: the server lets a stream be for so long after that. */
  get ended() { return this.#claims?.exp * 1_000 + TOKEN_MS < Date.now(); }

  /**
   * Who asks and with which rights, whatever the token's own times and name; undefined if that is not known. What is not in a
   * token, the server is to say.
   */
  get who() {
    if (this.#options.token === undefined) return null;
    if (!this.#claims || this.ended || this.#token === this.#refused) return undefined;
    const { exp, iat, nbf, jti, ...who } = this.#claims;
    return who;
  }

  /** Whether there is a function to ask for another token. */
  get renews() { return typeof this.#options.token === "function"; }

  /** The token for the next request, if one is needed. A function that rejects or throws rejects this. */
  async token() { return this.#token ?? (this.renews ? this.fresh() : undefined); }

  /** The token is no good any more. One that is just text stays, since there is no other. */
  forget() { if (this.renews) this.#token = this.#claims = undefined; }

  /** The server takes this token for nobody's. */
  refuse() { this.#refused = this.#token; }

  /** Asks the token function, once for all who need one now. @returns {Promise<string>} */
  fresh() {
    const ask = /** @type {() => string | Promise<string>} */ (this.#options.token);
    return this.#asking ??= (async () => {
      const token = this.#take(await ask());
      this.#changed();
      return token;
    })().finally(() => { this.#asking = undefined; });
  }

  /**
   * As `fetch` does it: rejects where there is no answer.
   * @param {string} path @param {RequestInit} init
   */
  fetch(path, init) {
    const headers = new Headers(init.headers);
    // A header, where an EventSource would need it in the URL, which proxies write into their logs.
    if (this.#token) headers.set("Authorization", `Bearer ${this.#token}`);
    const credentials = this.#options.withCredentials ? "include" : "same-origin";
    return fetch(this.#base + path, { cache: "no-store", credentials, ...init, headers });
  }

  /** The request for a stream. @param {URLSearchParams} query @param {AbortSignal} signal */
  stream(query, signal) { return this.fetch(`/v1/events?${query}`, { headers: { Accept: "text/event-stream" }, signal }); }

  /** Never rejects. @param {string} path */
  get(path) { return this.#request(path, {}); }

  /**
   * Never rejects. Up to `fetch` nothing is waited for: with `keepalive` the request leaves even while the page goes
   * (as one of `sendBeacon` does, which cannot carry a token).
   * @param {string} path @param {object} body
   */
  post(path, body, keepalive = false) {
    const headers = { "Content-Type": "application/json" };
    return this.#request(path, { method: "POST", headers, body: JSON.stringify(body), keepalive });
  }

  /** @param {string} path @param {RequestInit} init @returns {Promise<Answer>} */
  async #request(path, init) {
    try {
      return await answerOf(await this.fetch(path, { ...init, signal: AbortSignal.timeout(REQUEST_MS_MAX) }));
    } catch {
      return { status: 0, detail: "The server cannot be reached.", retryMs: 0, body: null };
    }
  }
}
