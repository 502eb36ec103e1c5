// The live pictures. One source alone is a stream; several are snapshots one after the other, since
// a browser has only six connections to a host, and streams would take them all.

import { fixed, make, setState, setText, statePill, sync } from "./parts.js";

const SNAPSHOT_PAUSE_MS = 250;
const IDLE_PAUSE_MS = 5000;
const RETRY_MS = 2500;

class Picture {
  constructor(name, choose) {
    this.name = name;
    this.mode = null;
    this.serial = 0;
    this.idle = false;
    this.timer = 0;
    this.image = make("img", { alt: `Live picture of ${name} with what was found` });
    this.image.hidden = true;
    this.image.addEventListener("load", () => this.loaded());
    this.image.addEventListener("error", () => this.failed());
    this.message = make("p", { class: "message" });
    this.pill = statePill();
    this.rate = make("span", { class: "muted" });
    this.title = make("button", { class: "name", type: "button" }, name);
    this.title.addEventListener("click", () => choose(name));
    this.frame = make("div", { class: "frame" }, this.image, this.message);
    this.frame.addEventListener("click", () => choose(name));
    const caption = make("figcaption", {}, this.title, this.pill, this.rate);
    this.figure = make("figure", {}, this.frame, caption);
  }

  update(source, mode) {
    setState(this.pill, source.state);
    const size = source.size_wh && mode !== "snapshots" ? ` · ${source.size_wh.join("×")}` : "";
    setText(this.rate, `${fixed(source.frames_per_second)} frames/s${size}`);
    if (source.size_wh) this.frame.style.aspectRatio = source.size_wh.join("/");
    const stale = !["running", "ended"].includes(source.state);
    const idle = source.state !== "running";
    if (this.idle && !idle && this.mode === "snapshots") this.again(0);
    this.idle = idle;
    this.frame.classList.toggle("stale", stale);
    this.say(source, stale);
    this.show(source.results > 0 ? mode : null);
  }

  say(source, stale) {
    let text = "";
    if (stale) text = source.detail || `The source is ${source.state}.`;
    else if (!source.results) text = "No picture yet.";
    else if (this.image.hidden) text = "The picture is coming.";
    setText(this.message, text);
    this.message.hidden = !text;
  }

  show(mode) {
    if (mode === this.mode) return;
    this.mode = mode;
    this.load();
  }

  load() {
    clearTimeout(this.timer);
    this.serial += 1;
    if (this.mode === "stream") this.image.src = `/stream/${this.name}?${this.serial}`;
    else if (this.mode === "snapshots") this.image.src = `/snapshot/${this.name}.jpg?${this.serial}`;
    else this.image.removeAttribute("src");
  }

  loaded() {
    this.image.hidden = false;
    if (!this.frame.classList.contains("stale")) this.message.hidden = true;
    if (this.mode === "snapshots") this.again(this.idle ? IDLE_PAUSE_MS : SNAPSHOT_PAUSE_MS);
  }

  failed() {
    if (this.mode) this.again(RETRY_MS);
  }

  again(pause) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), pause);
  }

  restart() {
    if (this.mode) this.load();
  }

  stop() {
    this.show(null);
  }
}

// All pictures of the page. choose: called with a name when one is clicked.
export class Pictures {
  constructor(parent, choose) {
    this.parent = parent;
    this.choose = choose;
    this.shown = new Map();
  }

  update(sources, visible) {
    const entries = Object.entries(sources);
    const mode = !visible ? null : entries.length === 1 ? "stream" : "snapshots";
    for (const [name, picture] of this.shown) if (!(name in sources)) this.remove(name, picture);
    this.parent.classList.toggle("several", entries.length > 1);
    const create = (name) => {
      const picture = new Picture(name, this.choose);
      this.shown.set(name, picture);
      return picture.figure;
    };
    sync(this.parent, entries, create, (_, source, name) => {
      this.shown.get(name).update(source, mode);
    });
  }

  remove(name, picture) {
    picture.stop();
    this.shown.delete(name);
  }

  restart() {
    for (const picture of this.shown.values()) picture.restart();
  }

  stop() {
    for (const picture of this.shown.values()) picture.stop();
  }
}
