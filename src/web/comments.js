// The comments of a video: the past by a list, the present by the stream, and a field to write one. Where more come than
// anybody can read, the stream brings some of them, "Top"; who asks for "All" gets every one.
import { Reader, postOnce, request } from "./api.js";
import { $, avatar, clockTime, element, number } from "./context.js";
import { PostLog } from "./posts.js";

const LISTED = 100;
const SLOW_MS_MAX = 2_000;

export class Comments {
  #log = new PostLog(); #member; #url; #notice; #dots; #timeOut; #reader; #painting = false; #all = false; #leftOut = 0; #isPart = false; #ask;
  /** @type {Map<string, HTMLElement>} */ #items = new Map();

  /**
   * @param {{url: string, member: string, notice: (text: string, ms?: number) => void, dots: import("./dots.js").Dots,
   *   timeOut: (member: string) => void, ask: (all: boolean) => void}} page `ask` asks the stream for all comments, or for
   *   those that all are shown
   */
  constructor({ url, member, notice, dots, timeOut, ask }) {
    this.#url = url;
    this.#ask = ask;
    this.#member = member;
    this.#notice = notice;
    this.#dots = dots;
    this.#timeOut = timeOut;
    this.#reader = new Reader(() => `${url}?limit=${LISTED}`, ({ comments }) => {
      this.#log.snapshot(comments ?? []);
      this.#show(true);
    }, () => this.#log.mark());
    const form = /** @type {HTMLFormElement} */ ($("comment-form"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("comments").addEventListener("scroll", () => { if (this.#atEnd()) this.#show(); }, { passive: true });
    $("comments-new").addEventListener("click", () => { $("comments").focus(); this.#show(true); });
    $("comments-top").addEventListener("click", () => this.want(false));
    $("comments-all").addEventListener("click", () => this.want(true));
  }

  /**
   * Reads the list: after the page, or the stream, opened. Where the stream brings some of many, these do not make room for
   * the newest hundred of all.
   * @param {boolean} lost whether some may be missing that the stream does not bring
   */
  load(lost = false) { if (lost || this.#all || !this.#isPart) this.#reader.read(); }

  /** @param {import("../../packages/js/types.d.ts").Event} event of type `comment` @returns {boolean} whether it is new */
  added({ id, at, skipped, shown, data }) {
    const isNew = this.#log.add({ id, at, member: String(data?.member ?? "someone"), text: String(data?.text ?? "") });
    if (isNew) {
      this.#isPart ||= shown === false || skipped !== undefined;
      if (!this.#all) this.#leftOut += skipped ?? 0;
      this.#show();
    }
    return isNew;
  }

  get all() { return this.#all; }

  /** Which comments are wanted: all, or those that can be read. @param {boolean} all */
  want(all) {
    if (all === this.#all) return;
    this.#all = all;
    this.#leftOut = 0;
    this.#ask(all);
    this.#show(true);
  }

  /** @param {string} id */
  removed(id) {
    this.#log.remove(id);
    this.#items.get(id)?.remove();
    this.#items.delete(id);
    this.#show();
  }

  async #send() {
    const field = /** @type {HTMLInputElement} */ ($("comment-text")), text = field.value.trim();
    if (text === "") return;
    field.value = "";
    const pending = this.#item({ id: "", member: this.#member, text, at: Date.now() });
    pending.classList.add("pending");
    $("comments").append(pending);
    this.#toEnd();
    // Where rules ask for a longer wait, what to do with the text meanwhile is the person's to say.
    const answer = await postOnce(this.#url, { member: this.#member, text }, (detail, ms) =>
      this.#notice(`Your comment is not stored yet: ${detail} Trying again in ${Math.ceil(ms / 1_000)} s.`), SLOW_MS_MAX);
    pending.remove();
    if (answer.ok) {
      this.#notice("");
      this.#log.add({ id: answer.body.id, member: this.#member, text, at: Date.now() });
    } else {
      // What the person wrote is not lost, unless something newer stands in the field.
      if (field.value === "") field.value = text;
      this.#notice(`Your comment was not stored: ${answer.detail}`);
    }
    this.#show(true);
  }

  /** @param {string} id @param {string} author whose comment it is: another's is deleted as a moderator, and not as oneself */
  async #delete(id, author) {
    const item = this.#items.get(id);
    item?.classList.add("pending");
    const answer = await request("DELETE", `${this.#url}/${encodeURIComponent(id)}`, author === this.#member ? { member: author } : undefined);
    // One that is not there is what was wanted.
    if (answer.ok || answer.status === 404) {
      this.removed(id);
      $("comment-text").focus();
    } else {
      item?.classList.remove("pending");
      this.#notice(`The comment was not deleted: ${answer.detail}`);
    }
  }

  /** @param {import("./posts.js").Post} post */
  #item({ id, member, text, at }) {
    const item = element("li", "comment"), body = element("div", "body"), head = element("p", "head");
    item.dataset.id = id;
    const online = element("span", "visually-hidden");
    online.dataset.presenceOf = member;
    head.append(element("b", "who", member), online, clockTime(at));
    body.append(head, element("p", "text", text));
    item.append(avatar(member), body);
    const mine = member === this.#member;
    item.classList.toggle("mine", mine);
    if (id) {
      const actions = element("div", "actions");
      const action = (/** @type {string} */ name, /** @type {string} */ label, /** @type {() => void} */ act) => {
        const button = element("button", "delete", name);
        button.type = "button";
        button.setAttribute("aria-label", label);
        button.addEventListener("click", act);
        actions.append(button);
      };
      if (!mine) action("Time out", `Give ${member} a time-out`, () => this.#timeOut(member));
      action("Delete", `Delete ${mine ? "your" : `${member}'s`} comment: ${text.slice(0, 60)}`, () => this.#delete(id, member));
      item.append(actions);
    }
    return item;
  }

  #atEnd() {
    const list = $("comments");
    return list.scrollHeight - list.scrollTop - list.clientHeight < 48;
  }

  #toEnd() {
    $("comments").scrollTop = $("comments").scrollHeight;
    $("comments-new").hidden = true;
  }

  /** A burst of comments is drawn once a frame. @param {boolean} toEnd */
  #show(toEnd = false) {
    if (toEnd) this.#stick = true;
    if (this.#painting) return;
    this.#painting = true;
    // A hidden page has no frames.
    if (document.hidden) queueMicrotask(() => this.#paint());
    else requestAnimationFrame(() => this.#paint());
  }
  #stick = false;

  #paint() {
    this.#painting = false;
    const list = $("comments"), stick = this.#stick || this.#atEnd(), posts = this.#log.posts;
    this.#stick = false;
    this.#which();
    $("comments-empty").hidden = posts.length > 0;
    $("comments-count").textContent = posts.length > 0 ? number(posts.length) : "";
    $("comments-count").dataset.value = String(posts.length);
    if (!stick && this.#items.size > 0) return this.#hold(posts);
    const ids = new Set(posts.map(({ id }) => id));
    for (const [id, item] of this.#items) {
      if (ids.has(id)) continue;
      item.remove();
      this.#items.delete(id);
    }
    /** @type {Element | null} */
    let next = list.querySelector(".comment");
    for (const post of posts) {
      let item = this.#items.get(post.id);
      if (!item) this.#items.set(post.id, item = this.#item(post));
      if (item === next) next = next.nextElementSibling;
      else list.insertBefore(item, next);
    }
    // What is on its way to the server stays last.
    for (const pending of list.querySelectorAll(".comment.pending[data-id='']")) list.append(pending);
    this.#toEnd();
    // The newest writers are the ones on screen.
    this.#dots.follow(posts.slice(-30).map(({ member }) => member));
  }

  /** Whoever reads further up is not to have the text move away: what is new follows at the end. @param {import("./posts.js").Post[]} posts */
  #hold(posts) {
    const unseen = posts.filter(({ id }) => !this.#items.has(id)).length;
    $("comments-new").hidden = unseen === 0;
    $("comments-new").textContent = `${number(unseen)} new ${unseen === 1 ? "comment" : "comments"} ↓`;
  }

  /** There is a choice once something was left out. */
  #which() {
    $("comments-which").hidden = !this.#isPart;
    $("comments-top").setAttribute("aria-pressed", String(!this.#all));
    $("comments-all").setAttribute("aria-pressed", String(this.#all));
    $("comments-all").textContent = this.#leftOut > 0 ? `All +${number(this.#leftOut)}` : "All";
  }
}
