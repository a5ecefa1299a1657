// Requests to the server, and how long to wait before one is made again.

const REQUEST_MS_MAX = 15_000;
const RETRY_MS = 2_000;
const RETRY_MS_MAX = 60_000;

/**
 * @typedef {{ok: true, status: number, body: any} | {ok: false, status: number, detail: string, retryMs: number}} Answer
 *   `retryMs` 0: the same request would fail again; `status` 0: there was no answer.
 */

/** `Retry-After` is seconds or a date (RFC 9110, 10.2.3). @param {Response} response */
export function retryAfterMs(response) {
  const value = response.headers.get("Retry-After");
  if (!value) return RETRY_MS;
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1_000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(RETRY_MS_MAX, Math.max(500, ms)) : RETRY_MS;
}

/**
 * Never rejects.
 * @param {string} method @param {string} url @param {object} [body]
 * @returns {Promise<Answer>}
 */
export async function request(method, url, body) {
  let response;
  try {
    response = await fetch(url, {
      method,
      cache: "no-store",
      headers: body ? { "Content-Type": "application/json" } : {},
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_MS_MAX),
    });
  } catch {
    return { ok: false, status: 0, detail: "The server cannot be reached.", retryMs: RETRY_MS };
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return { ok: true, status: response.status, body: answer };
  const passing = response.status === 429 || response.status >= 500;
  const detail = answer?.detail || answer?.title || `The server answered ${response.status}.`;
  return { ok: false, status: response.status, detail, retryMs: passing ? retryAfterMs(response) : 0 };
}

/**
 * Reads something until it works, at longer and longer intervals; a later call takes the place of one that is still
 * trying. `take` gets what was read.
 */
export class Reader {
  #turn = 0;

  /** @param {() => string} url @param {(body: any, asked: any) => void} take @param {() => any} [ask] called before each request, for `take` */
  constructor(url, take, ask = () => undefined) {
    this.url = url;
    this.take = take;
    this.ask = ask;
  }

  async read() {
    const turn = ++this.#turn;
    for (let wait = 500; turn === this.#turn; wait = Math.min(wait * 2, RETRY_MS_MAX / 4)) {
      const asked = this.ask(), answer = await request("GET", this.url());
      if (turn !== this.#turn) return;
      if (answer.ok) {
        this.take(answer.body, asked);
        return;
      }
      // What this server does not have, or this member may not read, does not come by asking again.
      if (answer.retryMs === 0) return;
      await new Promise((resolve) => setTimeout(resolve, Math.max(wait, answer.status === 0 ? 0 : answer.retryMs) * (0.75 + Math.random() / 2)));
    }
  }
}

/**
 * Posts something that a repeat would post twice: made again only where the server surely did not take it.
 * @param {string} url @param {object} body @param {(detail: string, retryMs: number) => void} waiting told of each wait
 * @param {number} slowMsMax who is too fast waits so long, and is told where it is to be longer
 * @returns {Promise<Answer>}
 */
export async function postOnce(url, body, waiting, slowMsMax = Infinity) {
  for (let tries = 1; ; tries++) {
    const answer = await request("POST", url, body);
    const refused = !answer.ok && (answer.status === 503 || (answer.status === 429 && answer.retryMs <= slowMsMax));
    if (answer.ok || !refused || tries === 5) return answer;
    waiting(answer.detail, answer.retryMs);
    await new Promise((resolve) => setTimeout(resolve, answer.retryMs * (1 + Math.random() / 4)));
  }
}
