// The live page: asks for the state once a second, listens to the detections, and shows both.

import { make, setText, sync } from "./parts.js";
import { Pictures } from "./pictures.js";
import {
  problemsOf, showClasses, showFigures, showFound, showHeader, showLatency, showNpu, showSinks,
  showSources,
} from "./show.js";

const POLL_MS = 1000;
const HIDDEN_POLL_MS = 10_000;
const TABLE_MS = 400;
const PATIENCE_MS = 5000;

const at = (id) => document.getElementById(id);
const pictures = new Pictures(at("pictures"), choose);
const newest = new Map();
let state = null;
let connected = true;
let events = null;
let listensTo = null;
let timer = 0;

function chosen() {
  const name = decodeURIComponent(location.hash.slice(1));
  const names = Object.keys(state?.sources || {});
  return names.includes(name) ? name : names.length === 1 ? names[0] : null;
}

function shownSources() {
  const name = chosen();
  return name === null ? state.sources : { [name]: state.sources[name] };
}

function choose(name) {
  if (Object.keys(state.sources).length < 2) return;
  history.replaceState(null, "", name === null ? location.pathname : `#${name}`);
  show();
}

async function poll() {
  clearTimeout(timer);
  try {
    const answer = await fetch("/api/state", { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    arrived(await answer.json());
  } catch (error) {
    lost(error);
  }
  clearTimeout(timer);
  timer = setTimeout(poll, document.hidden ? HIDDEN_POLL_MS : POLL_MS);
}

function arrived(fresh) {
  const again = !connected || (state && fresh.started_at !== state.started_at);
  connected = true;
  state = fresh;
  show();
  if (again) {
    pictures.restart();
    listen(true);
  }
}

function lost(error) {
  if (!(error instanceof TypeError || error.name === "TimeoutError")) console.warn(error.message);
  connected = false;
  pictures.stop();
  document.body.classList.add("lost");
  at("health").dataset.state = "failed";
  setText(at("health"), "no connection");
  showAlerts();
}

function show() {
  document.body.classList.toggle("lost", !connected);
  if (!connected) return;
  const sources = shownSources();
  showHeader(state, problemsOf(state));
  showViews();
  showAlerts();
  showFigures(state, sources);
  pictures.update(sources, !document.hidden);
  showLatency(sources);
  showSources(state, sources);
  showSinks(state);
  showNpu(state);
  showClasses(state, sources);
  listen(false);
  showNewest();
}

function showAlerts() {
  const alerts = [];
  if (!connected) alerts.push("The board does not answer. The page goes on by itself when it does.");
  else if (state.reload.error) {
    alerts.push(`The last reload failed, the former configuration runs on: ${state.reload.error}`);
  }
  const entries = alerts.map((text) => [text, text]);
  sync(at("alerts"), entries, (text) => make("p", { class: "alert" }, text), () => {});
}

function showViews() {
  const names = Object.keys(state.sources);
  at("views").hidden = names.length < 2;
  const entries = [["", null], ...names.map((name) => [`=${name}`, name])];
  const create = (_, name) => {
    const label = name === null ? "All" : name;
    const button = make("button", { type: "button" }, make("i", { class: "dot" }), label);
    button.addEventListener("click", () => choose(name));
    return button;
  };
  sync(at("views"), entries, create, (button, name) => {
    if (chosen() === name) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    const dot = button.firstChild;
    dot.hidden = name === null;
    if (name !== null) dot.dataset.state = state.sources[name].state;
    if (name !== null) button.title = state.sources[name].state;
  });
}

// One stream of events, of the source that is shown, while the page is.
function listen(again) {
  const wanted = document.hidden ? null : chosen() || "";
  if (!again && wanted === listensTo && events?.readyState !== EventSource.CLOSED) return;
  events?.close();
  events = null;
  listensTo = wanted;
  newest.clear();
  if (wanted === null) return;
  events = new EventSource("/api/detections" + (wanted && `?source=${wanted}`));
  events.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    newest.set(event.source, event);
  };
}

function showNewest() {
  if (!state || document.hidden) return;
  const sources = shownSources();
  const current = [...newest.values()].filter(({ source }) =>
    ["running", "ended"].includes(sources[source]?.state));
  showFound(current, Object.keys(sources).length > 1);
}

document.addEventListener("visibilitychange", () => {
  if (state && connected) show();
  if (!document.hidden) poll();
});
window.addEventListener("hashchange", () => state && show());
setInterval(() => connected && showNewest(), TABLE_MS);
poll();
