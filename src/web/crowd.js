// A crowd made in the browser, for `?members=200`: members arrive, react in bursts, comment, leave and come back as
// others. What it does follows from a seed; how fast, from what the server takes.
import { request } from "./api.js";
import { seeded } from "./chance.js";
import { $, number, sleep } from "./context.js";
import { REACTIONS } from "./likes.js";

/** @typedef {{kind: "like", member: string, reaction: string} | {kind: "comment", member: string, text: string}} Act */

// A browser has six connections to a server, and the page itself needs some of them.
const UNDER_WAY_MAX = 2;
const PER_SECOND_MAX = 25;
const TURN_MS = 100;
const ARRIVING_MS = 15_000;
const GOAL_EVERY_MS = 18_000;
const GOAL_MS = 5_000;

const NAMES = ["aino", "bilal", "carla", "dev", "elif", "femi", "greta", "hugo", "imani", "jana", "kai", "leo", "mila", "noor", "omar", "petra", "quinn", "rosa", "sam", "tara", "uma", "viktor", "wren", "yuki", "zoe"];
const CALM = ["That bass line", "Hello from Lisbon", "Sound is perfect here", "Who is the support act?", "First row, can you see me?", "This one gives me chills", "Greetings from the night shift", "Lights are unreal tonight", "Is this a new song?", "Turned it up to eleven", "Best seat is my sofa", "My cat is dancing"];
const WILD = ["WHAT A DROP", "Again! Again!", "Goosebumps", "Encore!", "I lost my voice", "The whole house is jumping", "Incredible", "Hands up everyone"];

/** What a crowd does, and when. Knows no clock: `due(now)` gives what is due until then. */
export class Script {
  #random; #run;
  /** Each member's name and the reactions that are left. @type {{name: string, left: string[]}[]} */ #members = [];
  #begun = -1; #last = 0; #owed = 0; #names = 0;

  /** @param {number} members @param {number} seed @param {string} run tells this crowd's names from another's */
  constructor(members, seed, run) {
    this.size = members;
    this.#random = seeded(seed);
    this.#run = run;
  }

  get arrived() { return this.#members.length; }

  #pick(/** @type {any[]} */ from) { return from[Math.floor(this.#random() * from.length)]; }

  #member() {
    return { name: `${this.#pick(NAMES)}-${this.#run}${(this.#names++).toString(36)}`, left: [...REACTIONS] };
  }

  /** Acts a second, at this time since the crowd began: calm, but for the bursts. @param {number} ms */
  rate(ms) {
    const since = ms % GOAL_EVERY_MS, goal = ms >= GOAL_EVERY_MS / 2 && since < GOAL_MS;
    const calm = Math.min(4, 0.5 + this.arrived / 60);
    return Math.min(PER_SECOND_MAX, goal ? calm + (this.arrived / 8) * Math.exp(-since / 2_000) : calm);
  }

  /** @param {number} now ms @returns {Act[]} */
  due(now) {
    if (this.#begun < 0) this.#begun = this.#last = now;
    const ms = now - this.#begun;
    // They come quickly at first, and the last ones late.
    const wanted = Math.ceil(this.size * (1 - Math.exp((-3 * ms) / ARRIVING_MS)) / (1 - Math.exp(-3)));
    while (this.#members.length < Math.min(this.size, Math.max(1, wanted))) this.#members.push(this.#member());
    const rate = this.rate(ms), goal = rate > 6;
    // After a pause, such as of a hidden tab, there is nothing to catch up with.
    this.#owed += (rate * Math.min(1_000, now - this.#last)) / 1_000;
    this.#last = now;
    /** @type {Act[]} */
    const acts = [];
    for (; this.#owed >= 1; this.#owed--) acts.push(this.#act(goal));
    return acts;
  }

  /** @param {boolean} goal @returns {Act} */
  #act(goal) {
    const place = Math.floor(this.#random() * this.#members.length);
    let member = this.#members[place];
    if (this.#random() < (goal ? 0.12 : 0.3)) return { kind: "comment", member: member.name, text: this.#pick(goal ? WILD : CALM) };
    // Who has pressed everything leaves, and somebody else comes.
    if (member.left.length === 0) member = this.#members[place] = this.#member();
    const first = goal ? 0 : Math.floor(this.#random() * member.left.length);
    return { kind: "like", member: member.name, reaction: member.left.splice(first, 1)[0] };
  }
}

/** Runs a crowd against a video, with a button to pause it. */
export class Crowd {
  #script; #url; #running = true; #underWay = 0; #done = 0;
  /** @type {Act[]} */ #queue = [];

  /** @param {number} members @param {string} url of the video */
  constructor(members, url) {
    this.#script = new Script(members, Math.floor(Math.random() * 2 ** 31), Math.floor(Math.random() * 36 ** 2).toString(36));
    this.#url = url;
    $("crowd").hidden = false;
    $("crowd").addEventListener("click", () => {
      this.#running = !this.#running;
      this.#show();
    });
    this.#turns();
  }

  async #turns() {
    for (;; await sleep(TURN_MS)) {
      if (!this.#running || document.hidden) continue;
      this.#queue.push(...this.#script.due(performance.now()));
      // A server that cannot keep up is not to be flooded later.
      this.#queue.splice(0, Math.max(0, this.#queue.length - PER_SECOND_MAX));
      while (this.#underWay < UNDER_WAY_MAX && this.#queue.length > 0) this.#do(/** @type {Act} */ (this.#queue.shift()));
      this.#show();
    }
  }

  /** @param {Act} act */
  async #do(act) {
    this.#underWay++;
    const { kind, ...body } = act;
    const answer = await request("POST", `${this.#url}/${kind}s`, body);
    this.#done++;
    // Its place stays taken for as long as the server asks for.
    if (!answer.ok && answer.retryMs > 0) await sleep(answer.retryMs);
    this.#underWay--;
    if (this.#running && this.#queue.length > 0 && !document.hidden) this.#do(/** @type {Act} */ (this.#queue.shift()));
  }

  #show() {
    const text = number(this.#script.arrived);
    if ($("crowd-text").textContent !== text) $("crowd-text").textContent = text;
    $("crowd").dataset.done = String(this.#done);
    $("crowd").setAttribute("aria-pressed", String(this.#running));
    $("crowd").setAttribute("aria-label", `Simulated crowd of ${this.#script.arrived}, ${this.#running ? "acting: press to pause" : "paused: press to go on"}`);
    $("crowd").title = this.#running ? "Pause the simulated crowd" : "Let the simulated crowd go on";
  }
}
