// The plane: components with their ellipses, recent points, and how the centroids have moved.
// Two canvases lie on each other, since points arrive more often than versions.

import { Colours } from "./colours.js";
import { calm, h } from "./dom.js";
import { extent, fits, MARGIN } from "./plane_domain.js";
import { paintBack, paintPoints } from "./plane_paint.js";

const MOST_POINTS = 2000;
const TRAIL = 40; // versions that a trail shows
const MOST_TRAILS = 64; // components that have one
const MOST_MARKS = 16; // births and deaths
const MOVE_MS = 350;
const FRAME_MS = 25; // so every second frame of a display with 60 per second
const QUEUE_MS = 520; // a little more than the time between two events

export class Plane {
  constructor(onSelect) {
    this.back = h("canvas", { class: "layer" });
    this.front = h("canvas", { class: "layer", role: "img", "aria-label": "Plane of the model" });
    this.box = h("div", { class: "plane" }, this.back, this.front);
    this.onSelect = onSelect;
    this.axes = null;
    this.components = [];
    this.points = []; // [x, y, component], oldest first
    this.pending = []; // points that have arrived and aren't shown yet
    this.past = false; // whether an older version is shown: then the points are grey
    this.trails = new Map(); // component -> [[x, y], ...], oldest first
    this.trailed = new Set(); // components that have a trail
    this.marks = []; // births and deaths
    this.selected = null;
    this.domain = null;
    this.automatic = true;
    this.colours = new Colours();
    this.ownColours = null; // component -> its own colour, for palettes
    this.dirty = { back: true, front: true };
    this.moving = null;
    this.drawn = 0;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.box);
    this.listen();
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = -1;
  }

  // -- what is shown

  setAxes(axes) {
    this.axes = axes;
    this.draw();
  }

  // Forget all that was shown, since the axes or the model are others.
  reset() {
    this.points = [];
    this.pending = [];
    this.components = [];
    this.marks = [];
    this.trails.clear();
    this.domain = null;
    this.automatic = true;
  }

  // Show a version. Components move from where they are to where they will be.
  setComponents(components, { animate = true } = {}) {
    const before = new Map(this.components.map((each) => [each.id, each]));
    this.colours.assign(components.map((each) => each.id));
    this.components = components;
    const move = animate && before.size && !calm();
    this.moving = move ? { before, start: performance.now() } : null;
    this.refit();
    this.draw();
  }

  // Choose the components that have trails: the largest ones.
  chooseTrailed(components) {
    const largest = [...components].sort((one, other) => other.mass - one.mass).slice(0, MOST_TRAILS);
    this.trailed = new Set(largest.map((each) => each.id));
    for (const id of this.trails.keys()) if (!this.trailed.has(id)) this.trails.delete(id);
  }

  // Remember where a component was in a version.
  pushTrail(id, x, y) {
    if (!this.trailed.has(id) || !Number.isFinite(x) || !Number.isFinite(y)) return;
    const trail = this.trails.get(id) ?? [];
    trail.push([x, y]);
    if (trail.length > TRAIL) trail.shift();
    this.trails.set(id, trail);
  }

  get hasTrails() {
    return [...this.trails.values()].some((trail) => trail.length > 1);
  }

  mark(kind, id, x, y, version) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) return;
    this.marks.push({ kind, id, x, y, version });
    this.marks = this.marks.slice(-MOST_MARKS);
  }

  // Forget the marks of versions before this one.
  forgetMarks(version) {
    this.marks = this.marks.filter((mark) => mark.version >= version);
  }

  // Add points that have just arrived. They appear one after another until the next ones are due.
  queuePoints(points) {
    if (calm() || document.hidden) return this.addPoints(points);
    if (!this.pending.length) this.taken = performance.now();
    this.pending = this.pending.concat(points).slice(-MOST_POINTS);
    this.pace = this.pending.length / QUEUE_MS;
    this.draw({ back: false });
  }

  takeQueued(time) {
    const due = Math.floor((time - this.taken) * this.pace);
    if (!this.pending.length || due < 1) return;
    this.taken += due / this.pace;
    this.addPoints(this.pending.splice(0, due));
  }

  addPoints(points) {
    this.points.push(...points);
    if (this.points.length > MOST_POINTS) this.points.splice(0, this.points.length - MOST_POINTS);
    if (this.automatic && !this.domain) this.refit();
    this.draw({ back: false });
  }

  select(id) {
    this.selected = id;
    this.draw();
  }

  describe(text) {
    if (this.front.getAttribute("aria-label") !== text) this.front.setAttribute("aria-label", text);
  }

  // -- what part of the plane is shown

  refit(force = false) {
    if (!this.automatic && !force) return;
    const wanted = extent(this.components, this.points, !this.axes.y);
    if (wanted && (force || !this.domain || !fits(this.domain, wanted))) {
      this.domain = wanted;
      this.dirty.front = true;
    }
  }

  zoom(factor) {
    if (!this.domain) return;
    const { x0, x1, y0, y1 } = this.domain;
    const [x, y, width, height] = [(x0 + x1) / 2, (y0 + y1) / 2, ((x1 - x0) / 2) * factor, ((y1 - y0) / 2) * factor];
    this.domain = { x0: x - width, x1: x + width, y0: y - height, y1: y + height };
    this.automatic = false;
    this.draw();
  }

  fit() {
    this.automatic = true;
    this.refit(true);
    this.draw();
  }

  listen() {
    let from = null;
    this.front.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch") return; // a finger scrolls the page
      from = { x: event.offsetX, y: event.offsetY, domain: this.domain, moved: false };
      this.front.setPointerCapture(event.pointerId);
    });
    this.front.addEventListener("pointermove", (event) => {
      if (!from || !this.domain) return;
      const [dx, dy] = [event.offsetX - from.x, event.offsetY - from.y];
      if (!from.moved && Math.hypot(dx, dy) < 4) return;
      from.moved = true;
      const { x0, x1, y0, y1 } = from.domain;
      const [mx, my] = [(dx / this.inner.width) * (x1 - x0), (dy / this.inner.height) * (y1 - y0)];
      this.domain = { x0: x0 - mx, x1: x1 - mx, y0: y0 + my, y1: y1 + my };
      this.automatic = false;
      this.draw();
    });
    this.front.addEventListener("pointerup", () => {
      this.justDragged = from?.moved ?? false;
      from = null;
    });
    this.front.addEventListener("click", (event) => {
      if (this.justDragged) this.justDragged = false;
      else this.onSelect(this.nearest(event.offsetX, event.offsetY));
    });
    this.front.addEventListener("dblclick", () => this.fit());
  }

  nearest(px, py) {
    let best = null;
    let least = 24 ** 2;
    for (const each of this.components) {
      const [x, y] = this.at(each.x, each.y);
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance < least) [best, least] = [each.id, distance];
    }
    return best;
  }

  // -- drawing

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width || !height) return;
    const scale = Math.min(devicePixelRatio || 1, 2);
    for (const canvas of [this.back, this.front]) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.getContext("2d").setTransform(scale, 0, 0, scale, 0, 0);
    }
    this.size = { width, height };
    this.inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    this.draw();
  }

  draw({ back = true, front = true } = {}) {
    this.dirty.back ||= back;
    this.dirty.front ||= front;
    if (this.frame === undefined) this.frame = requestAnimationFrame((time) => this.paint(time));
  }

  paint(time) {
    if (this.frame === -1) return;
    this.frame = undefined;
    if (!this.size || !this.domain || !this.axes) return;
    if (time - this.drawn < FRAME_MS) {
      this.frame = requestAnimationFrame((next) => this.paint(next));
      return;
    }
    this.takeQueued(time);
    this.drawn = time;
    const dirty = this.dirty;
    this.dirty = { back: false, front: false };
    if (dirty.back) paintBack(this, this.positions(time));
    if (dirty.front) paintPoints(this);
    if (this.moving) this.draw({ front: false });
    if (this.pending.length) this.draw({ back: false });
  }

  at(x, y) {
    const { x0, x1, y0, y1 } = this.domain;
    return [
      MARGIN.left + ((x - x0) / (x1 - x0)) * this.inner.width,
      MARGIN.top + this.inner.height - ((y - y0) / (y1 - y0)) * this.inner.height,
    ];
  }

  colour(id) {
    return this.ownColours?.get(id) ?? this.colours.of(id);
  }

  // Return the components where they are at this time of their move.
  positions(time) {
    if (!this.moving) return this.components;
    const done = Math.min(1, Math.max(0, (time - this.moving.start) / MOVE_MS));
    const eased = 1 - (1 - done) ** 3;
    const { before } = this.moving;
    if (done === 1) {
      this.moving = null;
      return this.components;
    }
    const between = (from, to) => from + (to - from) * eased;
    return this.components.map((each) => {
      const from = before.get(each.id);
      if (!from) return each;
      const cov = each.cov && from.cov ? each.cov.map((value, place) => between(from.cov[place], value)) : each.cov;
      return { ...each, x: between(from.x, each.x), y: between(from.y, each.y), cov };
    });
  }
}
