// The server's clock, as far as the page can know it: of some samples the one with the shortest way there and back.

const PROBES = 4;

export class ServerClock {
  #offset = 0;
  known = false;

  now() { return this.of(Date.now()); }

  /** @param {number} ours what this page's clock said */
  of(ours) { return ours + this.#offset; }

  async sync() {
    let best = Infinity;
    for (let probe = 0; probe < PROBES; probe++) {
      try {
        const sent = performance.now();
        const { now } = await (await fetch("/v1/time", { cache: "no-store", signal: AbortSignal.timeout(5_000) })).json();
        const round = performance.now() - sent;
        if (!Number.isFinite(now) || round >= best) continue;
        best = round;
        this.#offset = now + round / 2 - Date.now();
        this.known = true;
      } catch {
        // The state pill says that the server is away, and the page asks again.
        return;
      }
    }
  }
}
