// Topics, clients, losses, warnings and settings.

import { grown } from "./parts.js";
import { NAMES, age, bytes, clock, count, el, list, say } from "./words.js";

const byId = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));

/** A row of a table, whose cells are texts. @param {number} cells @param {(item: any) => string[]} texts */
function row(cells, texts) {
  return () => {
    const all = Array.from({ length: cells }, () => el("td")), element = el("tr", {}, ...all);
    return { element, show(/** @type {any} */ item) { texts(item).forEach((text, at) => say(all[at], text)); } };
  };
}

/** @param {any} now */
export function showTopics(now) {
  const most = Math.max(1e-9, ...now.topics.map((/** @type {any} */ hot) => hot.deliveries_per_second));
  byId("no-topics").hidden = now.topics.length > 0;
  byId("topics").closest(".scroll").hidden = now.topics.length === 0;
  list(byId("topics"), now.topics, (hot) => hot.topic, () => {
    const name = el("td.topic"), viewers = el("td"), events = el("td"), bar = el("i"), text = el("span");
    const element = el("tr", {}, name, viewers, events, el("td.bar-cell", {}, bar, text));
    return {
      element,
      show(hot) {
        say(name, hot.topic);
        name.title = hot.topic;
        say(viewers, count(hot.viewers));
        say(events, count(hot.events_per_second));
        say(text, count(hot.deliveries_per_second));
        bar.style.width = `${(100 * hot.deliveries_per_second / most).toFixed(1)}%`;
      },
    };
  });
}

/** @param {any} now */
export function showClients(now) {
  byId("no-clients").hidden = now.clients.length > 0;
  byId("clients").closest(".scroll").hidden = now.clients.length === 0;
  list(byId("clients"), now.clients, (client) => client.connection, () => {
    const who = el("b"), what = el("small"), waits = el("td"), state = el("small"), since = el("td"), bytesText = el("span");
    waits.append(bytesText, state);
    const element = el("tr", {}, el("td", {}, who, what), waits, since);
    return {
      element,
      show(client) {
        say(who, client.member ?? client.address ?? "?");
        const more = (client.topics_count ?? client.topics.length) - client.topics.length;
        say(what, [client.member ? client.address : null, `shard ${client.shard}`, client.topics.join(", ") + (more > 0 ? ` and ${more} more` : "")].filter(Boolean).join(" · "));
        element.title = `connection ${client.connection}`;
        say(bytesText, bytes(client.pending_bytes));
        say(state, client.ending ? "ending" : client.replaying ? "reads what it missed" : client.overrun ? "past its backlog" : "");
        say(since, age(client.seconds_without_progress));
      },
    };
  });
}

const GROUPS = [["refused", "Refused"], ["dropped", "Dropped"], ["disconnects", "Streams ended"], ["troubles", "Other"]];

/** @param {Element} parent @param {any[]} past */
export function showLosses(parent, past) {
  const now = past[past.length - 1];
  list(parent, GROUPS.map(([group, title]) => ({ group, title, now, past })), (losses) => losses.group, ({ title }) => {
    const rows = el("tbody"), none = el("p.none", { textContent: "None since the start." });
    const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col", textContent: title }), el("th", { scope: "col", textContent: "1 min" }), el("th", { scope: "col", textContent: "In all" }))), rows);
    const element = el("div", {}, table, none);
    return {
      element,
      show({ group, now, past }) {
        const figures = now[group].map((/** @type {any} */ figure) => ({ ...figure, minute: grown(past, group, figure) }));
        figures.sort((/** @type {any} */ one, /** @type {any} */ other) => other.minute - one.minute || other.total - one.total);
        none.hidden = figures.length > 0;
        list(rows, figures, (figure) => figure.name, () => {
          const made = row(3, (figure) => [NAMES[figure.name] ?? figure.name, count(figure.minute), count(figure.total)])();
          return { element: made.element, show(figure) { made.show(figure); made.element.classList.toggle("now", figure.minute > 0); } };
        });
      },
    };
  });
}

/** @param {any[] | string} happenings the newest first; or why there are none */
export function showWarnings(happenings) {
  /** @type {any[]} Those in a row that are alike but for the event are one, the newest. */
  const warnings = [];
  for (const one of typeof happenings === "string" ? [] : happenings.filter((one) => one.level === "warn")) {
    const alike = `${one.shard} ${one.what} ${one.detail.replace(/ ?event=\S+/, "")}`;
    if (warnings.at(-1)?.alike === alike) warnings.at(-1).times += 1;
    else if (warnings.length < 30) warnings.push({ ...one, alike, times: 1 });
    else break;
  }
  byId("no-warnings").hidden = warnings.length > 0;
  say(byId("no-warnings"), typeof happenings === "string" ? happenings : "No warnings.");
  // Two may be alike.
  const keyed = warnings.map((one, at) => ({ ...one, key: `${one.at} ${one.shard} ${one.what} ${one.detail} ${one.times} ${warnings.slice(0, at).filter((other) => other.at === one.at && other.detail === one.detail).length}` }));
  list(byId("warnings"), keyed, (one) => one.key, (one) => {
    const element = el("li", {}, el("time", { textContent: clock(one.at), dateTime: new Date(one.at).toISOString(), title: new Date(one.at).toLocaleString() }), el("b", { textContent: one.times > 1 ? `${one.what} × ${one.times}` : one.what }), el("span", { textContent: one.detail }), el("small", { textContent: `shard ${one.shard}` }));
    return { element, show() {} };
  });
}

/** @param {any} answer */
export function showSettings(answer) {
  const text = byId("find-setting").value.trim().toLowerCase(), onlySet = byId("only-set").checked;
  const isSet = (/** @type {any} */ one) => one.value !== null && one.from !== "default";
  const found = answer.settings.filter((/** @type {any} */ one) => (!onlySet || isSet(one)) && `${one.name} ${one.value ?? ""}`.toLowerCase().includes(text));
  say(byId("settings-note"), `${answer.settings.filter(isSet).length} of ${answer.settings.length} set by somebody`);
  byId("no-settings").hidden = found.length > 0;
  list(byId("settings"), found, (one) => one.name, row(3, (one) => [one.name, one.value ?? "not set", one.value === null ? "" : one.from]));
  for (const [at, element] of [...byId("settings").children].entries()) element.classList.toggle("set", isSet(found[at]));
}
