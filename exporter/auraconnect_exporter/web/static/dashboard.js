// The five-second page. Data goes one way: poll → state → show. Nothing here turns text into markup.

const API = new URL("../", import.meta.url); // …/api/v1/health/
const POLL_SECONDS = 5;
const TIMEOUT_SECONDS = 4;
const LONGEST_WAIT_SECONDS = 60;
const KEPT_SECONDS = 1.1; // for how long the exporter gives everybody the same answer
const STALE_SECONDS = 20; // four polls; the exporter itself looks every five

const find = (id) => document.getElementById(id);

// ── Talking to the API ──────────────────────────────────────────────────────────────────────────────────────────────

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, { body, headers = {} } = {}) {
  const answer = await fetch(new URL(path, API), {
    method,
    cache: "no-store",
    credentials: "same-origin",
    headers: {
      Accept: "application/json",
      "X-Requested-By": "dashboard",
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_SECONDS * 1000),
  });
  if (answer.status >= 400) {
    const said = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, said.detail ?? `status ${answer.status}`);
  }
  return answer;
}

// ── State ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const state = {
  board: null,
  etag: "",
  failures: 0,
  failure: "",
  answeredAt: -Infinity, // performance.now() of the last good answer
  serverAhead: 0, // milliseconds that the server's clock is ahead of ours
  known: null, // ids of the criticals that have been seen; null before the first answer
};
let timer = 0;
let polling = false;

const now = () => Date.now() + state.serverAhead;

// The server's clock, as whole seconds in the Date header. Half a second is the best guess of what they leave out.
function keepTime(answer) {
  const date = Date.parse(answer.headers.get("Date") ?? "");
  if (!Number.isNaN(date)) state.serverAhead = date + 500 - Date.now();
  state.answeredAt = performance.now();
}

async function poll() {
  clearTimeout(timer);
  if (polling || document.hidden) return;
  polling = true;
  try {
    const answer = await call("GET", "board", { headers: state.etag ? { "If-None-Match": state.etag } : {} });
    if (answer.status !== 304) {
      state.board = await answer.json();
      state.etag = answer.headers.get("ETag") ?? "";
    }
    keepTime(answer);
    state.failures = 0;
    state.failure = "";
    if (answer.status !== 304) showBoard(state.board);
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
      showSignIn(state.board ? "You are not signed in any more." : "");
      return;
    }
    state.failures += 1;
    state.failure = error instanceof Refused ? error.message : "the exporter does not answer";
  } finally {
    polling = false;
  }
  showFreshness();
  const wait = Math.min(POLL_SECONDS * 2 ** Math.max(0, state.failures - 1), LONGEST_WAIT_SECONDS);
  pollIn(wait * (0.9 + 0.2 * Math.random()));
}

function pollIn(seconds) {
  clearTimeout(timer);
  timer = setTimeout(poll, seconds * 1000);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!find("board").hidden) void poll();
});
window.addEventListener("online", () => void poll());

// ── Words ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const unbroken = (text) => text.replaceAll(" ", "\u00a0"); // a number and its unit stay on one line

function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return unbroken(`${seconds} s`);
  if (seconds < 3600) return unbroken(`${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`);
  if (seconds < 172800) return unbroken(`${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`);
  return unbroken(`${Math.floor(seconds / 86400)} days`);
}

const clockTime = (iso) =>
  new Date(iso).toLocaleString(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });
const number = (value, digits = 0, unit = "") =>
  value === null || value === undefined
    ? "–"
    : unbroken(`${value.toLocaleString(undefined, { maximumFractionDigits: digits })}${unit}`);

// ── Showing: only what has changed is touched, so that focus, selection and scroll stay ─────────────────────────────

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, classes) {
  if (element.className !== classes) element.className = classes;
}

// Bring a list's children into step with items: the same item keeps its element, whoever holds the focus stays put.
function keep(list, items, key, make, update, leave = (element) => element.remove()) {
  const elements = new Map([...list.children].map((element) => [element.dataset.key, element]));
  const wanted = items.map((item) => {
    const id = String(key(item));
    const element = elements.get(id) ?? make(item);
    element.dataset.key = id;
    elements.delete(id);
    update(element, item);
    return element;
  });
  for (const element of elements.values()) leave(element);
  const present = [...list.children].filter((element) => wanted.includes(element));
  if (present.length === wanted.length && wanted.every((element, index) => element === present[index])) return;
  const held = wanted.findIndex((element) => element.contains(document.activeElement));
  wanted.forEach((element, index) => {
    if (index < held) list.insertBefore(element, wanted[held]);
    else if (index !== held) list.append(element);
  });
}

const line = () => document.createElement("li");

function showBoard(board) {
  const { dashboard } = board;
  find("sign-in").hidden = true;
  find("board").hidden = false;
  showAlerts(board.alerts, dashboard.active_alerts_total);
  showComponents(dashboard.health.components, board.history);
  showMetrics(dashboard.system_metrics, dashboard.performance);
  showErrors(dashboard);
  showMaintenance(board.maintenance);
  keep(
    find("links"),
    board.links,
    (link) => `${link.name} ${link.url}`,
    () => {
      const item = line();
      const anchor = document.createElement("a");
      anchor.rel = "noreferrer";
      item.append(anchor);
      return item;
    },
    (item, link) => {
      item.firstChild.href = link.url;
      say(item.firstChild, link.name);
    },
    (item) => item.dataset.key !== undefined && item.remove(),
  );
  followAddress();
}

function showFreshness() {
  const { board } = state;
  const age = board ? now() - Date.parse(board.dashboard.timestamp) : Infinity;
  const silent = performance.now() - state.answeredAt;
  const stale = age > STALE_SECONDS * 1000 || silent > STALE_SECONDS * 1000;
  say(find("freshness"), board ? `data ${duration(age)} old` : "no data yet");
  document.body.classList.toggle("stale", stale || state.failures > 1);
  const troubles = [];
  if (state.failures > 1 || (stale && board)) {
    troubles.push(`This page shows the past: ${state.failure || "nothing has been checked lately"}.`);
  }
  for (const trouble of board?.troubles ?? []) troubles.push(`${trouble}.`);
  find("trouble").hidden = troubles.length === 0;
  say(find("trouble"), troubles.join(" "));
  const health = board?.dashboard.health.status ?? "unknown";
  const shown = stale || state.failures > 1 ? "unknown" : health;
  mark(find("system"), `state ${shown}`);
  say(find("system"), shown === health ? `System ${health}` : `System not known, was ${health}`);
  document.title = `${shown === "healthy" ? "" : `${shown.toUpperCase()}: `}AuraConnect incident dashboard`;
}

// ── Alerts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function showAlerts(alerts, total) {
  const list = find("alerts-list");
  keep(list, alerts, (alert) => alert.id, makeAlert, updateAlert, leaveAlert);
  const open = alerts.filter((alert) => !alert.acknowledged_at && !alert.suppressed).length;
  say(find("alerts-count"), total ? `${open} waiting, ${total} in all` : "");
  find("alerts-none").hidden = total > 0;
  announce(alerts);
}

// Tell those who can't see it of criticals that were not there before; at the first look, only how many there are.
function announce(alerts) {
  const criticals = alerts.filter((alert) => alert.severity === "critical" && !alert.acknowledged_at && !alert.suppressed);
  const fresh = criticals.filter((alert) => state.known !== null && !state.known.has(alert.id));
  if (fresh.length) {
    say(find("announcement"), `New critical: ${fresh.map((alert) => alert.title).join("; ")}`);
  } else if (state.known === null && criticals.length) {
    say(find("announcement"), `${criticals.length} critical alerts wait for acknowledgement`);
  }
  state.known = new Set(criticals.map((alert) => alert.id));
}

function makeAlert(alert) {
  const element = find("alert-template").content.firstElementChild.cloneNode(true);
  const title = `alert-${alert.id}`;
  element.querySelector("h3").id = title;
  element.querySelector("article").setAttribute("aria-labelledby", title);
  element.querySelector(".acknowledge").addEventListener("click", () => act(element, "acknowledge"));
  element.querySelector(".resolve").addEventListener("click", () => askToResolve(element));
  element.querySelector("form.note").addEventListener("submit", (event) => {
    event.preventDefault();
    void note(element);
  });
  return element;
}

function updateAlert(element, alert) {
  element.alert = alert;
  const severity = ["critical", "warning", "info"].includes(alert.severity) ? alert.severity : "other";
  element.dataset.severity = severity;
  say(element.querySelector(".severity"), alert.severity);
  say(element.querySelector(".title"), alert.title);
  say(element.querySelector(".where"), [alert.component, alert.target].filter(Boolean).join(" "));
  say(element.querySelector(".description"), alert.description === alert.title ? "" : alert.description);
  const acknowledge = element.querySelector(".acknowledge");
  acknowledge.hidden = alert.acknowledged_at !== null && document.activeElement !== acknowledge;
  say(acknowledge, alert.acknowledged_at ? "Acknowledged" : "Acknowledge");
  acknowledge.setAttribute("aria-disabled", String(alert.acknowledged_at !== null));
  const runbook = element.querySelector(".runbook");
  runbook.hidden = !alert.runbook;
  if (alert.runbook) runbook.href = alert.runbook;
  showClock(element);
}

// What is over while somebody works on it stays until they leave.
function leaveAlert(element) {
  if (!element.contains(document.activeElement)) {
    element.remove();
    return;
  }
  if (element.alert.over) return;
  element.alert = { ...element.alert, over: true };
  showClock(element);
  element.addEventListener("focusout", (event) => {
    if (!element.contains(event.relatedTarget) && element.alert.over) element.remove();
  });
}

function urgency(alert, left) {
  if (left > 0) return `act within ${duration(left)}`;
  return alert.severity === "critical" ? "act now" : `overdue by ${duration(-left)}`;
}

function showClock(element) {
  const { alert } = element;
  const waits = alert.next_at ? Date.parse(alert.next_at) - now() : null;
  const left = alert.respond_by ? Date.parse(alert.respond_by) - now() : null;
  const parts = [`since ${duration(now() - Date.parse(alert.triggered_at))}`];
  if (alert.over) parts.push("over");
  else if (alert.acknowledged_at) {
    parts.push(`acknowledged by ${alert.acknowledged_by ?? "somebody"} ${duration(now() - Date.parse(alert.acknowledged_at))} ago`);
  } else if (alert.suppressed) parts.push("kept from people: silenced, inhibited or muted");
  else {
    if (left !== null) parts.push(urgency(alert, left));
    if (alert.told.length) parts.push(`told: ${alert.told.join(", ")}`);
    if (alert.next_role) parts.push(waits > 0 ? `${alert.next_role} in ${duration(waits)}` : `${alert.next_role} is being told`);
  }
  say(element.querySelector(".clock"), parts.join(" · "));
  const overdue = !alert.over && !alert.acknowledged_at && !alert.suppressed && left !== null && left <= 0;
  mark(
    element,
    ["alert", element.dataset.severity, overdue && "overdue", alert.acknowledged_at && "acknowledged", alert.over && "over"]
      .filter(Boolean)
      .join(" "),
  );
}

async function act(element, what, query = "") {
  if (element.alert.over || (what === "acknowledge" && element.alert.acknowledged_at)) return "";
  try {
    const answer = await call("PUT", `alerts/${encodeURIComponent(element.alert.id)}/${what}${query}`);
    const { acknowledged_at, acknowledged_by } = await answer.json();
    say(element.querySelector(".problem"), "");
    updateAlert(element, { ...element.alert, acknowledged_at, acknowledged_by });
    pollIn(KEPT_SECONDS);
    return "";
  } catch (error) {
    const problem = error instanceof Refused ? error.message : "the exporter does not answer; nothing was changed";
    if (what !== "resolve") say(element.querySelector(".problem"), problem);
    return problem;
  }
}

async function note(element) {
  const form = element.querySelector("form.note");
  const text = form.querySelector("textarea");
  const done = form.querySelector(".done");
  try {
    await call("POST", `alerts/${encodeURIComponent(element.alert.id)}/notes`, { body: { text: text.value } });
    text.value = "";
    say(done, "The note is kept.");
  } catch (error) {
    say(done, error instanceof Refused ? error.message : "The exporter does not answer; the note is not kept.");
  }
}

let resolving = null;

function askToResolve(element) {
  resolving = element;
  say(find("resolve-what"), element.alert.title);
  say(find("resolve-problem"), "");
  say(find("resolve-go"), "Resolve");
  find("resolve-go").dataset.force = "";
  find("resolve").showModal();
}

find("resolve-go").addEventListener("click", async () => {
  const go = find("resolve-go");
  const problem = await act(resolving, "resolve", go.dataset.force ? "?force=true" : "");
  if (!problem) {
    find("resolve").close();
    return;
  }
  say(find("resolve-problem"), problem);
  say(go, "Resolve though it fires");
  go.dataset.force = "true";
});

// A page that somebody was sent links here with the alert's name behind the #, as Alertmanager escapes it.
let followed = "";

function followAddress() {
  const wanted = location.hash.slice(1);
  if (!wanted || wanted === followed || wanted === "alerts-title") return;
  followed = wanted;
  let name = "";
  try {
    name = decodeURIComponent(wanted.replaceAll("+", " "));
  } catch {
    return; // not an address of ours
  }
  const element = [...find("alerts-list").children].find((each) => each.alert.alertname === name);
  if (!element) {
    say(find("announcement"), `${name} is not open any more`);
    return;
  }
  element.scrollIntoView({ block: "center" });
  element.querySelector("h3").focus({ preventScroll: true });
}

window.addEventListener("hashchange", () => state.board && followAddress());

// ── Components, figures, errors, maintenance ────────────────────────────────────────────────────────────────────────

function showComponents(components, history) {
  const strips = new Map(history.strips.map((strip) => [strip.component, strip.cells]));
  keep(
    find("components-list"),
    components,
    (component) => component.name,
    () => {
      const item = line();
      for (const name of ["name", "state", "strip", "message"]) {
        const part = document.createElement(name === "strip" ? "div" : "span");
        part.className = name;
        item.append(part);
      }
      item.querySelector(".strip").setAttribute("role", "img");
      return item;
    },
    (item, component) => {
      say(item.querySelector(".name"), component.name);
      const shown = item.children[1];
      mark(shown, `state ${component.status}`);
      say(shown, component.status);
      say(item.querySelector(".message"), component.status === "healthy" ? "" : component.message);
      showStrip(item.querySelector(".strip"), strips.get(component.name) ?? [], history);
    },
  );
  const hours = (Math.max(0, ...history.strips.map((strip) => strip.cells.length)) * history.cell_seconds) / 3600;
  say(find("history-hint"), hours ? `The last ${hours} hours, the newest at the right.` : "No history: Prometheus has not told any.");
}

function showStrip(strip, cells, history) {
  const words = cells.join(",");
  if (strip.dataset.cells === words) return;
  strip.dataset.cells = words;
  strip.replaceChildren(
    ...cells.map((cell) => {
      const part = document.createElement("i");
      part.className = `cell-${cell}`;
      return part;
    }),
  );
  const bad = cells.filter((cell) => cell === "unhealthy" || cell === "degraded").length;
  const hours = (bad * history.cell_seconds) / 3600;
  strip.setAttribute("aria-label", cells.length ? (bad ? `not well in ${hours} hours of the last day` : "well over the last day") : "no history");
}

function showMetrics(metrics, endpoints) {
  const memory = metrics.memory_total_mb ? (100 * metrics.memory_usage_mb) / metrics.memory_total_mb : null;
  const figures = [
    ["Requests", number(metrics.request_rate_per_second, 1, " /s")],
    ["Errors", number(metrics.error_rate_per_second, 2, " /s")],
    ["Response time", number(metrics.average_response_time_ms, 0, " ms")],
    ["Connections", number(metrics.active_connections)],
    ["Processor", number(metrics.cpu_usage_percent, 0, " %")],
    ["Memory", number(memory, 0, " %")],
    ["Fullest disk", number(metrics.disk_usage_percent, 0, " %")],
  ];
  keep(
    find("metrics-list"),
    figures,
    ([name]) => name,
    () => {
      const group = document.createElement("div");
      group.append(document.createElement("dt"), document.createElement("dd"));
      return group;
    },
    (group, [name, value]) => {
      say(group.children[0], name);
      say(group.children[1], value);
    },
  );
  keep(
    find("endpoints"),
    endpoints,
    (each) => `${each.method} ${each.endpoint}`,
    () => {
      const row = document.createElement("tr");
      for (let column = 0; column < 4; column += 1) row.append(document.createElement("td"));
      return row;
    },
    (row, each) => {
      const texts = [
        `${each.method} ${each.endpoint}`,
        number(each.request_count),
        number(each.error_rate, 1, " %"),
        number(each.p95_response_time_ms, 0, " ms"),
      ];
      texts.forEach((text, column) => say(row.children[column], text));
    },
  );
}

function showErrors({ error_summary: summary, recent_errors: newest }) {
  say(find("errors-count"), summary ? `${number(summary.total_errors)} in ${summary.time_window_hours} h` : "not known");
  const show = (id, items, text) => keep(find(id), items, (_item) => text(_item), line, (item, each) => say(item, text(each)));
  show("errors-top", summary?.top_errors.slice(0, 5) ?? [], (each) => `${each.error_type}: ${number(each.count)}`);
  show("errors-endpoints", summary?.affected_endpoints.slice(0, 5) ?? [], (each) => `${each.endpoint}: ${number(each.error_count)}`);
  keep(
    find("errors-newest"),
    newest,
    (error) => error.id,
    line,
    (item, error) => say(item, `${clockTime(error.created_at)} ${error.error_type}: ${error.error_message.slice(0, 200)}`),
  );
}

function showMaintenance(windows) {
  find("maintenance").hidden = windows.length === 0;
  keep(
    find("maintenance-list"),
    windows,
    (each) => each.name,
    line,
    (item, each) =>
      say(item, `${each.active ? "Now: " : ""}${each.name} (${each.scope || "everything"}), ${clockTime(each.start)} to ${clockTime(each.end)}`),
  );
}

// ── Signing in ──────────────────────────────────────────────────────────────────────────────────────────────────────

function showSignIn(why) {
  clearTimeout(timer);
  find("board").hidden = true;
  find("sign-in").hidden = false;
  document.querySelector(".account").hidden = true;
  say(find("sign-in-problem"), why);
  find("token").focus();
}

async function begin() {
  try {
    const session = await (await call("GET", "session")).json();
    say(find("who"), session.name);
    document.querySelector(".account").hidden = false;
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
      showSignIn("");
      return;
    }
  }
  await poll();
}

find("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = find("token");
  try {
    await call("POST", "session", { body: { token: token.value.trim() } });
    token.value = "";
    say(find("sign-in-problem"), "");
    await begin();
    if (!followed) find("alerts-title").focus({ preventScroll: true });
  } catch (error) {
    say(find("sign-in-problem"), error instanceof Refused ? error.message : "The exporter does not answer.");
    token.select();
  }
});

find("sign-out").addEventListener("click", async () => {
  await call("DELETE", "session").catch(() => {});
  location.reload();
});

setInterval(() => {
  if (find("board").hidden || document.hidden) return;
  showFreshness();
  for (const element of find("alerts-list").children) showClock(element);
}, 1000);

void begin();
