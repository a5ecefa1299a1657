// The chat drawer: messages, who types, who has read how far.
import { Reader, postOnce, request } from "./api.js";
import { $, avatar, clockTime, element, number } from "./context.js";
import { PostLog, Reads } from "./posts.js";
import { TypingTeller, Typists, typingText } from "./talk.js";

const LISTED = 100;
const HERE_MAX = 5;
const RECEIPT_MS = 400;

/** @param {string[]} names */
const list = (names) => names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");

export class Chat {
  #log = new PostLog(); #reads = new Reads(this.#log); #typists = new Typists(); #teller = new TypingTeller();
  #member; #url; #notice; #dots; #now; #messages; #receipts;
  #open = false; #painting = false; #stick = false; #told = "";
  /** Whether both lists are here: only then is known what is unread. */ #loaded = 0;
  /** @type {Map<string, HTMLElement>} */ #items = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #receiptTimer;

  /**
   * @param {{url: string, member: string, conversation: string, notice: (text: string, ms?: number) => void,
   *   dots: import("./dots.js").Dots, now: () => number}} page `now` is the server's time
   */
  constructor({ url, member, conversation, notice, dots, now }) {
    this.#url = url;
    this.#member = member;
    this.#notice = notice;
    this.#dots = dots;
    this.#now = now;
    $("chat-name").textContent = conversation;
    this.#messages = new Reader(() => `${url}/messages?limit=${LISTED}`, ({ messages }) => {
      this.#log.snapshot(messages ?? []);
      this.#loaded |= 1;
      this.#show(true);
    }, () => this.#log.mark());
    this.#receipts = new Reader(() => `${url}/receipts`, ({ receipts }) => {
      for (const { member: who, message, at } of receipts ?? []) this.#reads.read(who, message, at);
      this.#loaded |= 2;
      this.#show();
    });
    $("chat-toggle").addEventListener("click", () => this.#turn(!this.#open));
    $("chat-close").addEventListener("click", () => this.#turn(false));
    $("chat").addEventListener("keydown", (event) => { if (event.key === "Escape") this.#turn(false); });
    const form = /** @type {HTMLFormElement} */ ($("chat-form")), field = /** @type {HTMLInputElement} */ ($("chat-text"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(field);
    });
    field.addEventListener("input", () => {
      if (this.#teller.tells(performance.now(), field.value)) request("POST", `${url}/typing`, { member });
    });
    $("messages").addEventListener("scroll", () => this.#receiptSoon(), { passive: true });
    document.addEventListener("visibilitychange", () => this.#receiptSoon());
    setInterval(() => this.#showTyping(), 1_000);
  }

  /** Reads the lists: after the page, or the stream, opened. */
  load() {
    this.#messages.read();
    this.#receipts.read();
  }

  open() { this.#turn(true); }

  /** @param {import("../../packages/js/types.d.ts").Event} event of type `message` */
  added({ id, at, data }) {
    const who = String(data?.member ?? "someone");
    this.#typists.said(who);
    if (this.#log.add({ id, at, member: who, text: String(data?.text ?? "") })) this.#show();
  }

  /** @param {string} id */
  removed(id) { if (this.#log.remove(id)) this.#show(); }

  /** @param {string} who */
  typing(who) {
    if (who === this.#member) return;
    this.#typists.typing(who, performance.now());
    this.#dots.follow([who]);
    this.#showTyping();
  }

  /** @param {string} who @param {string} message @param {number} at */
  read(who, message, at) { if (this.#reads.read(who, message, at)) this.#show(); }

  /** @param {boolean} open */
  #turn(open) {
    if (open === this.#open) return;
    this.#open = open;
    const drawer = $("chat");
    drawer.inert = !open;
    drawer.dataset.open = String(open);
    document.body.classList.toggle("chatting", open);
    $("chat-toggle").setAttribute("aria-expanded", String(open));
    if (open) {
      $("chat-text").focus({ preventScroll: true });
      this.#show(true);
    } else {
      $("chat-toggle").focus({ preventScroll: true });
    }
  }

  /** @param {HTMLInputElement} field */
  async #send(field) {
    const text = field.value.trim();
    if (text === "") return;
    field.value = "";
    this.#teller.sent();
    const pending = this.#item({ id: "", member: this.#member, text, at: Date.now() });
    pending.classList.add("pending");
    $("messages").append(pending);
    this.#toEnd();
    const answer = await postOnce(`${this.#url}/messages`, { member: this.#member, text }, (detail, ms) =>
      this.#notice(`Your message is not sent yet: ${detail} Trying again in ${Math.ceil(ms / 1_000)} s.`));
    pending.remove();
    if (answer.ok) {
      this.#notice("");
      this.#log.add({ id: answer.body.id, member: this.#member, text, at: Date.now() });
    } else {
      if (field.value === "") field.value = text;
      this.#notice(`Your message was not sent: ${answer.detail}`);
    }
    this.#show(true);
  }

  /** @param {import("./posts.js").Post} post */
  #item({ id, member, text, at }) {
    const mine = member === this.#member, item = element("li", mine ? "message mine" : "message");
    item.dataset.id = id;
    const bubble = element("div", "bubble"), head = element("p", "head"), online = element("span", "visually-hidden");
    online.dataset.presenceOf = member;
    head.append(element("b", "who", mine ? "You" : member), online, clockTime(at));
    bubble.append(head, element("p", "text", text));
    if (!mine) item.append(avatar(member));
    item.append(bubble, element("p", "read-by"));
    return item;
  }

  #toEnd() { $("messages").scrollTop = $("messages").scrollHeight; }

  #atEnd() {
    const messages = $("messages");
    return messages.scrollHeight - messages.scrollTop - messages.clientHeight < 48;
  }

  /** @param {boolean} stick whether to go to the end */
  #show(stick = false) {
    this.#stick ||= stick;
    if (this.#painting) return;
    this.#painting = true;
    if (document.hidden) queueMicrotask(() => this.#paint());
    else requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#painting = false;
    const messages = $("messages"), stick = this.#stick || this.#atEnd(), posts = this.#log.posts;
    this.#stick = false;
    const ids = new Set(posts.map(({ id }) => id));
    for (const [id, item] of this.#items) {
      if (ids.has(id)) continue;
      item.remove();
      this.#items.delete(id);
    }
    /** @type {Element | null} */
    let next = messages.querySelector(".message");
    let before = "";
    for (const post of posts) {
      let item = this.#items.get(post.id);
      if (!item) this.#items.set(post.id, item = this.#item(post));
      if (item === next) next = next.nextElementSibling;
      else messages.insertBefore(item, next);
      item.classList.toggle("follows", post.member === before);
      before = post.member;
      // The writer has read it, needless to say.
      const readers = this.#reads.at(post.id).filter((who) => who !== this.#member && who !== post.member);
      const line = /** @type {HTMLElement} */ (item.querySelector(".read-by")), text = readers.length ? `Read by ${list(readers)}` : "";
      if (line.textContent !== text) line.textContent = text;
    }
    for (const pending of messages.querySelectorAll(".message.pending[data-id='']")) messages.append(pending);
    $("messages-empty").hidden = posts.length > 0;
    if (stick) this.#toEnd();
    this.#showHere();
    this.#showUnread();
    this.#receiptSoon();
  }

  /** Who takes part: the newest writers and readers. */
  #showHere() {
    const members = [...new Set([...this.#log.posts.map(({ member }) => member).reverse(), ...this.#reads.members])];
    const others = members.filter((who) => who !== this.#member), shown = others.slice(0, HERE_MAX);
    $("chat-here").replaceChildren(...shown.map(avatar), ...others.length > HERE_MAX ? [element("span", "more", `+${others.length - HERE_MAX}`)] : []);
    $("chat-here").setAttribute("aria-label", others.length === 0 ? "Nobody else has written or read here yet" : `Here: ${list(others)}`);
    this.#dots.follow(members.slice(0, 25));
  }

  #showUnread() {
    const last = this.#reads.get(this.#member), place = last === undefined ? -1 : this.#log.place(last);
    const unread = this.#loaded === 3 ? this.#log.posts.slice(place + 1).filter(({ member }) => member !== this.#member).length : 0;
    const badge = $("chat-unread");
    badge.hidden = unread === 0;
    badge.dataset.value = String(unread);
    badge.textContent = unread > 99 ? "99+" : String(unread);
    $("chat-toggle").setAttribute("aria-label", unread === 0 ? "Chat" : `Chat, ${number(unread)} unread`);
  }

  #showTyping() {
    const text = typingText(this.#typists.list(performance.now())), line = $("typing");
    if (line.dataset.text === text) return;
    line.dataset.text = text;
    $("typing-text").textContent = text;
    line.toggleAttribute("data-shown", text !== "");
  }

  /** What is on screen has been read: says so shortly after, once for all that came together. */
  #receiptSoon() {
    if (!this.#open || document.hidden || !this.#atEnd() || this.#loaded !== 3) return;
    this.#receiptTimer ??= setTimeout(async () => {
      this.#receiptTimer = undefined;
      const last = this.#log.posts.at(-1);
      if (!last || !this.#open || document.hidden || this.#told === last.id || this.#reads.get(this.#member) === last.id) return;
      this.#told = last.id;
      const answer = await request("POST", `${this.#url}/receipts`, { member: this.#member, message: last.id });
      if (answer.ok) this.read(this.#member, last.id, this.#now());
      // Not of weight enough to bother the person: the next message tries again.
      else this.#told = "";
    }, RECEIPT_MS);
  }
}
