// Pieces of the page, and numbers as people read them. Data only ever becomes text, never markup.

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// One child for each [key, data], made once and updated after that, in this order.
export function sync(parent, entries, create, update) {
  const kept = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const [key, data] of entries) {
    let child = kept.get(key);
    kept.delete(key);
    if (!child) {
      child = create(key, data);
      child.dataset.key = key;
    }
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, data, key);
  }
  for (const child of kept.values()) child.remove();
}

export function statePill() {
  return make("span", { class: "state" });
}

export function setState(pill, state) {
  pill.dataset.state = state;
  setText(pill, state);
}

// The words of a row of small numbers: [[label, value, whether it is bad], ...].
export function setStats(list, stats) {
  const entries = stats.map(([label, value, bad]) => [label, { value, bad }]);
  const create = (label) => make("span", {}, make("b"), ` ${label}`);
  sync(list, entries, create, (item, { value, bad }) => {
    setText(item.firstChild, value);
    item.classList.toggle("bad", Boolean(bad));
  });
}

// A labelled bar from 0 to 1; the number stands beside it, so the bar itself is for the eye only.
export function barRow(label) {
  const fill = make("i");
  const mark = make("u");
  const row = make(
    "div",
    { class: "bar-row" },
    make("span", { class: "bar-label" }, label),
    make("span", { class: "bar", "aria-hidden": "true" }, fill, mark),
    make("span", { class: "bar-value" }),
  );
  return row;
}

export function setBar(row, share, text, { mark = null, colour = null } = {}) {
  const [fill, line] = row.querySelector(".bar").children;
  fill.style.width = percent(share);
  if (colour) fill.style.background = colour;
  line.hidden = mark === null;
  if (mark !== null) line.style.left = percent(mark);
  setText(row.querySelector(".bar-value"), text);
}

function percent(share) {
  return `${(100 * Math.min(Math.max(share || 0, 0), 1)).toFixed(1)}%`;
}

// The colour a class is drawn in on the pictures: see class_colour in runtime/draw.py.
export function classColour(id) {
  return `hsl(${(360 * ((0.08 + id * 0.618034) % 1)).toFixed(1)} 100% 57.5%)`;
}

export function whole(value) {
  return typeof value === "number" ? Math.round(value).toLocaleString("en") : "–";
}

export function short(value) {
  if (typeof value !== "number") return "–";
  if (value < 10_000) return whole(value);
  const [divisor, unit] = value < 1e6 ? [1e3, "k"] : value < 1e9 ? [1e6, "M"] : [1e9, "G"];
  return `${(value / divisor).toFixed(value / divisor < 100 ? 1 : 0)}${unit}`;
}

export function fixed(value, digits = 1) {
  return typeof value === "number" ? value.toFixed(digits) : "–";
}

export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

export function ago(then, now) {
  if (typeof then !== "number") return "never";
  return now - then < 2 ? "just now" : `${duration(now - then)} ago`;
}
