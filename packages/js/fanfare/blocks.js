// A stream of bytes cut into the blocks of Server-Sent Events (WHATWG HTML, 9.2.6).

/**
 * @typedef {{name: string, data: string, id?: string, retry?: number}} Block `data` is "" where there was none, `id` and
 *   `retry` only there where the block itself has such a line
 */

class Blocks {
  // Keeps the beginning of a character whose rest comes with the next bytes.
  #decoder = new TextDecoder();
  /** The beginning of a line. */ #rest = "";
  /** @type {string[]} */ #data = [];
  #name = "";
  /** @type {string | undefined} */ #id;
  /** @type {number | undefined} */ #retry;

  /**
   * Gives the blocks that these bytes complete. What is never completed is nobody's: neither its data nor its id counts.
   * @param {Uint8Array} bytes @returns {Block[]}
   */
  push(bytes) {
    // A CR at the end may be the first half of CR LF.
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    this.#rest = /** @type {string} */ (lines.pop());
    /** @type {Block[]} */
    const blocks = [];
    for (const line of lines) {
      if (line !== "") {
        this.#line(line);
        continue;
      }
      if (this.#data.length > 0 || this.#id !== undefined || this.#retry !== undefined) {
        blocks.push({ name: this.#name || "message", data: this.#data.join("\n"), id: this.#id, retry: this.#retry });
      }
      this.#data = [];
      this.#name = "";
      this.#id = this.#retry = undefined;
    }
    return blocks;
  }

  /** @param {string} line */
  #line(line) {
    const colon = line.indexOf(":"), name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#name = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.#retry = Number(value);
  }
}

/**
 * The blocks of a stream, a piece of it at a time, none where a piece completes none; nothing where this is no stream.
 * @param {Response} response
 */
export function blocksOf({ status, body, headers }) {
  if (status !== 200 || !body || !/^text\/event-stream/i.test(headers.get("Content-Type") ?? "")) return undefined;
  return read(body.getReader());
}

/** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
async function* read(reader) {
  const blocks = new Blocks();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield blocks.push(value);
  }
}
