// The comments of a video: the past by a list, the present by the stream, and a field to write one.
import { Reader, postOnce, request } from "./api.js";
import { $, avatar, clockTime, element, number } from "./context.js";
import { PostLog } from "./posts.js";

const LISTED = 100;
const SLOW_MS_MAX = 2_000;

export class Comments {
  #log = new PostLog(); #member; #url; #notice; #dots; #timeOut; #reader; #painting = false; #unseen = 0;
  /** @type {Map<string, HTMLElement>} */ #items = new Map();

  /**
   * @param {{url: string, member: string, notice: (text: string, ms?: number) => void, dots: import("./dots.js").Dots, timeOut: (member: string) => void}} page
   */
  constructor({ url, member, notice, dots, timeOut }) {
    this.#url = url;
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
    $("comments").addEventListener("scroll", () => { if (this.#atEnd()) this.#seen(); }, { passive: true });
    $("comments-new").addEventListener("click", () => { this.#toEnd(); $("comments").focus(); });
  }

  /** Reads the list: after the page, or the stream, opened. */
  load() { this.#reader.read(); }

  /** @param {import("./fanfare.js").Event} event of type `comment` @returns {boolean} whether it is new */
  added({ id, at, data }) {
    const isNew = this.#log.add({ id, at, member: String(data?.member ?? "someone"), text: String(data?.text ?? "") });
    if (isNew) this.#show();
    return isNew;
  }

  /** @param {string} id */
  removed(id) { if (this.#log.remove(id)) this.#show(); }

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
    this.#seen();
  }

  #seen() {
    this.#unseen = 0;
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
    const list = $("comments"), stick = this.#stick || this.#atEnd(), before = this.#items.size;
    this.#stick = false;
    const posts = this.#log.posts, ids = new Set(posts.map(({ id }) => id));
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
    $("comments-empty").hidden = posts.length > 0;
    $("comments-count").textContent = posts.length > 0 ? number(posts.length) : "";
    $("comments-count").dataset.value = String(posts.length);
    if (stick) this.#toEnd();
    else if (this.#items.size > before) {
      this.#unseen += this.#items.size - before;
      $("comments-new").hidden = false;
      $("comments-new").textContent = `${number(this.#unseen)} new ${this.#unseen === 1 ? "comment" : "comments"} ↓`;
    }
    // The newest writers are the ones on screen.
    this.#dots.follow(posts.slice(-30).map(({ member }) => member));
  }
}
