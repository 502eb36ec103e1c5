// The state of the daemon, written into the cards of the page.

import {
  ago, barRow, classColour, duration, fixed, make, setBar, setState, setStats, setText, short,
  statePill, sync, whole,
} from "./parts.js";

const STAGES = ["wait", "letterbox", "infer", "decode", "order"];
const at = (id) => document.getElementById(id);
const sum = (values) => values.reduce((total, value) => total + (value || 0), 0);

export function showHeader(state, problems) {
  setText(at("board"), state.board);
  document.title = `${state.board} · rkyolo`;
  const { path, target, precision, backend, input_wh: wh, classes } = state.model;
  const file = String(path || "").split("/").filter(Boolean).pop();
  const size = wh ? wh.join("×") : null;
  const many = classes ? `${classes.length} ${classes.length === 1 ? "class" : "classes"}` : null;
  setText(at("model"), [file, target, precision, backend, size, many].filter(Boolean).join(" · "));
  const pill = at("health");
  pill.dataset.state = !state.ready ? "connecting" : problems.length ? "waiting" : "running";
  const trouble = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  setText(pill, !state.ready ? "starting" : problems.length ? trouble : "all well");
  const up = duration(state.now - state.started_at);
  setText(at("about"), `rkyolo ${state.version} · up ${up} · ${state.threads} threads`);
}

export function problemsOf(state) {
  const bad = (parts, good) =>
    Object.entries(parts).filter(([, part]) => !good.includes(part.state)).map(([name]) => name);
  const problems = bad(state.sources, ["running", "ended", "connecting"]);
  problems.push(...bad(state.sinks, ["running", "starting"]));
  if (state.reload.error) problems.push("reload");
  return problems;
}

// Latency of one source: the medians of its stages, together.
function total(source) {
  const medians = STAGES.map((stage) => source.stages?.[stage]?.median_ms);
  return medians.some((value) => typeof value === "number") ? sum(medians) : null;
}

export function showFigures(state, sources) {
  const all = Object.values(sources);
  const running = all.filter((source) => source.state === "running").length;
  const latencies = all.map(total).filter((value) => value !== null);
  const worst = latencies.length ? Math.max(...latencies) : null;
  const lost = sum(all.map((source) => source.dropped));
  const failed = sum(all.map((source) => source.failed));
  const contexts = state.contexts || [];
  const figures = [
    ["Frame rate", fixed(sum(all.map((source) => source.frames_per_second))), "/s",
      `${running} of ${all.length} running`],
    ["Latency", fixed(worst), "ms", all.length > 1 ? "median, slowest source" : "median"],
    ["Detections", short(sum(all.map((source) => source.detections))), "",
      `in ${short(sum(all.map((source) => source.results)))} frames`],
    ["Dropped", short(lost), "", `${short(failed)} failed`],
    ["At work", String(contexts.filter((context) => context.busy).length), `of ${contexts.length}`,
      "contexts"],
    ["Memory", fixed(state.memory_mb, 0), "MB", `${short(sum(contexts.map((c) => c.errors)))} errors`],
  ];
  const create = (label) =>
    make("div", {}, make("dt", {}, label), make("dd", {}, make("b"), make("i")), make("small"));
  const entries = figures.map(([label, ...rest]) => [label, rest]);
  sync(at("figures"), entries, create, (cell, [value, unit, note]) => {
    setText(cell.querySelector("b"), value);
    setText(cell.querySelector("i"), unit);
    setText(cell.querySelector("small"), note);
  });
}

export function showLatency(sources) {
  const entries = Object.entries(sources);
  const alone = entries.length === 1;
  at("stages-key").hidden = alone;
  if (!at("stages-key").children.length) {
    at("stages-key").append(
      ...STAGES.map((stage) => make("li", {}, make("i", { class: `stage-${stage}` }), stage)),
    );
  }
  const parent = at("latency");
  if (parent.dataset.alone !== String(alone)) parent.replaceChildren();
  parent.dataset.alone = alone;
  if (alone) showStages(parent, entries[0][1].stages || {});
  else showStacks(parent, entries);
}

function showStages(parent, stages) {
  const longest = Math.max(1, ...STAGES.map((stage) => stages[stage]?.p95_ms || 0));
  const create = (stage) => {
    const row = barRow(stage);
    row.querySelector("i").className = `stage-${stage}`;
    return row;
  };
  sync(parent, STAGES.map((stage) => [stage, stages[stage] || {}]), create, (row, numbers) => {
    const known = typeof numbers.p95_ms === "number";
    const mark = known ? numbers.p95_ms / longest : null;
    const text = `${fixed(numbers.median_ms)}  p95 ${fixed(numbers.p95_ms)}`;
    setBar(row, numbers.median_ms / longest, text, { mark });
  });
}

function showStacks(parent, entries) {
  const longest = Math.max(1, ...entries.map(([, source]) => total(source) || 0));
  const create = (name) => {
    const row = barRow(name);
    const parts = STAGES.map((stage) => make("i", { class: `stage-${stage}`, title: stage }));
    row.querySelector(".bar").replaceChildren(...parts);
    return row;
  };
  sync(parent, entries, create, (row, source) => {
    STAGES.forEach((stage, i) => {
      const share = (source.stages?.[stage]?.median_ms || 0) / longest;
      row.querySelector(".bar").children[i].style.width = `${(100 * share).toFixed(1)}%`;
    });
    setText(row.querySelector(".bar-value"), fixed(total(source)));
  });
}

function partRow(name) {
  const head = make("p", { class: "row-head" }, make("b", {}, name), statePill());
  const place = make("p", { class: "place muted" });
  return make("div", {}, head, place, make("p", { class: "detail" }), make("p", { class: "stats" }));
}

function updatePart(row, part, place, stats) {
  setState(row.querySelector(".state"), part.state);
  setText(row.querySelector(".place"), place);
  const detail = row.querySelector(".detail");
  setText(detail, part.detail || "");
  detail.hidden = !part.detail;
  setStats(row.querySelector(".stats"), stats);
}

export function showSources(state, sources) {
  sync(at("sources"), Object.entries(sources), partRow, (row, source) => {
    updatePart(row, source, `${source.type} · ${source.from}`, [
      ["frames/s", fixed(source.frames_per_second)],
      ["frames", short(source.frames)],
      ["results", short(source.results)],
      ["dropped", short(source.dropped), source.dropped],
      ["skipped", short(source.skipped)],
      ["failed", short(source.failed), source.failed],
      [source.connections === 1 ? "connection" : "connections", short(source.connections)],
      ["last frame", ago(source.last_frame_at, state.now)],
    ]);
  });
}

export function showSinks(state) {
  const entries = Object.entries(state.sinks);
  if (!entries.length) return at("sinks").replaceChildren(make("p", { class: "none" }, "There are none."));
  sync(at("sinks"), entries, partRow, (row, sink) => {
    const more = Object.entries(sink.more || {}).filter(([, value]) => isPlain(value));
    updatePart(row, sink, `${sink.type} · ${sink.to}`, [
      ["written", short(sink.written)],
      ["waiting", `${whole(sink.queued)} of ${whole(sink.queue)}`, sink.queued >= sink.queue],
      ["dropped", short(sink.dropped), sink.dropped],
      ["failed", short(sink.failed), sink.failed],
      ...more.map(([key, value]) => [key.replaceAll("_", " "), plain(value)]),
    ]);
  });
}

function isPlain(value) {
  return ["number", "string", "boolean"].includes(typeof value);
}

function plain(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? short(value) : value;
}

export function showNpu(state) {
  at("npu").hidden = !state.npu_load;
  const entries = (state.npu_load || []).map((load, core) => [`Core ${core}`, load]);
  sync(at("cores"), entries, barRow, (row, load) => {
    setBar(row, load / 100, `${fixed(load, 0)} %`);
  });
}

export function showClasses(state, sources) {
  const counts = new Map();
  for (const source of Object.values(sources)) {
    for (const [name, count] of Object.entries(source.per_class || {})) {
      counts.set(name, (counts.get(name) || 0) + count);
    }
  }
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 8);
  const parent = at("classes");
  if (!most.length) return parent.replaceChildren(make("p", { class: "none" }, "Nothing yet."));
  parent.querySelector(".none")?.remove();
  sync(parent, most, barRow, (row, count, name) => {
    const colour = classColour((state.model.classes || []).indexOf(name));
    setBar(row, count / most[0][1], short(count), { colour });
  });
}

const ROWS = 60;

// The newest event of each source that is shown, highest score first.
export function showFound(events, several) {
  const found = events.flatMap((event) =>
    event.detections.map((detection) => ({ source: event.source, ...detection })));
  found.sort((a, b) => b.score - a.score);
  setText(at("found-count"), found.length ? String(found.length) : "");
  const table = at("found");
  table.classList.toggle("several", several);
  table.hidden = !found.length;
  at("found-none").hidden = Boolean(found.length);
  setText(at("found-none"), events.length ? "Nothing in the newest frame." : "No frames now.");
  const entries = found.slice(0, ROWS).map((detection, i) => [String(i), detection]);
  sync(table.tBodies[0], entries, foundRow, updateFound);
}

function foundRow() {
  const kind = make("td", { class: "kind" }, make("div", {}, make("i"), make("span")));
  const cells = ["number", "box number", "of"].map((name) => make("td", { class: name }));
  return make("tr", {}, kind, ...cells);
}

function updateFound(row, { name, class: id, score, box, source }) {
  const [kind, value, place, of] = row.children;
  const [swatch, label] = kind.firstChild.children;
  swatch.style.background = classColour(id);
  setText(label, name);
  kind.title = name;
  setText(value, score.toFixed(2));
  const [x1, y1, x2, y2] = box.map(Math.round);
  setText(place, `${x1}, ${y1}  ${x2 - x1}×${y2 - y1}`);
  setText(of, source);
}
