// The plane: components with their ellipses, recent points, and how the centroids have moved.
// Two canvases lie on each other, since points arrive more often than versions.

import { Colours } from "./colours.js";
import { calm, colour, css, h } from "./dom.js";
import { number, percent } from "./format.js";

const MOST_POINTS = 2000;
const TRAIL = 40; // versions that a trail shows
const MOST_TRAILS = 64; // components that have one
const MOST_LABELS = 48;
const MOST_MARKS = 16; // births and deaths
const MOVE_MS = 350;
const FRAME_MS = 30;
const QUEUE_MS = 400;
const SIGMAS = 2;
const MARGIN = { left: 52, right: 12, top: 12, bottom: 40 };

export class Plane {
  constructor(onSelect) {
    this.back = h("canvas", { class: "layer" });
    this.front = h("canvas", { class: "layer", role: "img", "aria-label": "Plane of the model" });
    this.box = h("div", { class: "plane" }, this.back, this.front);
    this.onSelect = onSelect;
    this.axes = null;
    this.components = [];
    this.points = []; // [x, y, component], oldest first
    this.pending = [];
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
    this.pending = this.pending.concat(points).slice(-MOST_POINTS);
    this.draw({ back: false });
  }

  takeQueued(elapsed) {
    if (!this.pending.length) return;
    const due = Math.ceil(this.pending.length * Math.min(1, elapsed / QUEUE_MS));
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
    this.takeQueued(time - this.drawn);
    this.drawn = time;
    const dirty = this.dirty;
    this.dirty = { back: false, front: false };
    if (dirty.back) this.paintBack(time);
    if (dirty.front) this.paintPoints();
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

  clip(context) {
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, MARGIN.top, this.inner.width, this.inner.height);
    context.clip();
  }

  colour(id) {
    return this.ownColours?.get(id) ?? this.colours.of(id);
  }

  paintPoints() {
    const context = this.front.getContext("2d");
    context.clearRect(0, 0, this.size.width, this.size.height);
    this.clip(context);
    const total = this.points.length;
    const side = total > 1000 ? 2.5 : 3.5;
    for (let place = 0; place < total; place++) {
      const [x, y, code] = this.points[place];
      const [px, py] = this.at(x, y);
      const dim = this.selected !== null && code !== this.selected ? 0.25 : 1;
      context.globalAlpha = dim * (total - place < 60 ? 1 : 0.25 + 0.4 * (place / total));
      context.fillStyle = this.past ? colour("--control") : this.colour(code);
      context.fillRect(px - side / 2, py - side / 2, side, side);
    }
    context.restore();
  }

  paintBack(time) {
    const context = this.back.getContext("2d");
    context.clearRect(0, 0, this.size.width, this.size.height);
    context.font = `12px ${css("--font")}`;
    paintGrid(context, this);
    this.clip(context);
    const shown = this.positions(time);
    this.paintTrails(context);
    const top = Math.max(...shown.map((each) => each.mass), Number.MIN_VALUE);
    for (const each of shown) this.paintComponent(context, each, top);
    this.paintMarks(context);
    this.paintLabels(context, shown);
    context.restore();
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

  paintTrails(context) {
    context.lineWidth = 2;
    for (const [id, trail] of this.trails) {
      if (trail.length < 2) continue;
      context.strokeStyle = this.colour(id);
      const faint = this.selected !== null && this.selected !== id ? 0.2 : 1;
      for (let place = 1; place < trail.length; place++) {
        context.globalAlpha = faint * (0.25 + 0.6 * (place / trail.length));
        context.beginPath();
        context.moveTo(...this.at(...trail[place - 1]));
        context.lineTo(...this.at(...trail[place]));
        context.stroke();
      }
    }
    context.globalAlpha = 1;
  }

  paintComponent(context, { id, x, y, cov, mass }, top) {
    const [px, py] = this.at(x, y);
    const own = this.colour(id);
    const many = this.components.length > 100;
    context.globalAlpha = this.selected !== null && this.selected !== id ? 0.3 : 1;
    context.strokeStyle = context.fillStyle = own;
    if (cov) {
      const { major, minor, angle } = this.ellipse(cov);
      context.beginPath();
      context.ellipse(px, py, major, minor, angle, 0, 2 * Math.PI);
      context.lineWidth = this.selected === id ? 3 : many ? 0.75 : 1.75;
      context.stroke();
      if (!many) {
        const alpha = context.globalAlpha;
        context.globalAlpha = alpha * 0.08;
        context.fill();
        context.globalAlpha = alpha;
      }
    }
    const radius = (many ? 2 : 4) + (many ? 3 : 6) * Math.sqrt(Math.max(0, mass) / top);
    context.beginPath();
    context.arc(px, py, radius, 0, 2 * Math.PI);
    context.fill();
    context.lineWidth = this.selected === id ? 3 : 1.5;
    context.strokeStyle = this.selected === id ? colour("--ink") : colour("--surface");
    context.stroke();
    context.globalAlpha = 1;
  }

  // Return the half axes and the angle of a covariance's curve, in pixels.
  ellipse([xx, xy, yy]) {
    const sx = this.inner.width / (this.domain.x1 - this.domain.x0);
    const sy = -this.inner.height / (this.domain.y1 - this.domain.y0);
    const [a, b, c] = [xx * sx * sx, xy * sx * sy, yy * sy * sy];
    const middle = (a + c) / 2;
    const apart = Math.hypot((a - c) / 2, b);
    const axis = (value) => SIGMAS * Math.sqrt(Math.max(0, value));
    return { major: axis(middle + apart), minor: axis(middle - apart), angle: 0.5 * Math.atan2(2 * b, a - c) };
  }

  paintMarks(context) {
    context.lineWidth = 2;
    for (const { kind, x, y } of this.marks) {
      const [px, py] = this.at(x, y);
      context.strokeStyle = colour("--ink");
      context.beginPath();
      if (kind === "born") {
        context.setLineDash([3, 3]);
        context.arc(px, py, 15, 0, 2 * Math.PI);
      } else {
        for (const sign of [1, -1]) {
          context.moveTo(px - 6, py - 6 * sign);
          context.lineTo(px + 6, py + 6 * sign);
        }
      }
      context.stroke();
      context.setLineDash([]);
    }
  }

  // Write the numbers of the largest components beside them, where there is room.
  paintLabels(context, shown) {
    const taken = [];
    const first = (each) => (each.id === this.selected ? Infinity : each.mass);
    const largest = [...shown].sort((one, other) => first(other) - first(one)).slice(0, MOST_LABELS);
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.lineJoin = "round";
    for (const { id, x, y } of largest) {
      const [px, py] = this.at(x, y);
      const box = { x: px + 11, y: py - 8, width: context.measureText(id).width + 4, height: 16 };
      if (taken.some((other) => overlap(box, other))) continue;
      taken.push(box);
      context.lineWidth = 3;
      context.strokeStyle = colour("--surface");
      context.strokeText(id, box.x, py);
      context.fillStyle = colour("--ink");
      context.fillText(id, box.x, py);
    }
  }
}

function overlap(one, other) {
  return (
    one.x < other.x + other.width && other.x < one.x + one.width && one.y < other.y + other.height && other.y < one.y + one.height
  );
}

// Return the rectangle of components and of most points. A model of one feature is flat.
function extent(components, points, flat) {
  const xs = [];
  const ys = [];
  const total = components.reduce((sum, each) => sum + each.mass, 0) || 1;
  for (const { x, y, cov, mass } of components) {
    const [wide, high] = cov && mass / total > 0.002 ? [SIGMAS * Math.sqrt(cov[0]), SIGMAS * Math.sqrt(cov[2])] : [0, 0];
    xs.push(x - wide, x + wide);
    ys.push(y - high, y + high);
  }
  if (points.length > 20) {
    const middle = (values) => [values[Math.floor(values.length * 0.01)], values[Math.ceil(values.length * 0.99) - 1]];
    xs.push(...middle(points.map(([x]) => x).sort((one, other) => one - other)));
    ys.push(...middle(points.map(([, y]) => y).sort((one, other) => one - other)));
  }
  if (!xs.length) return null;
  const [x0, x1] = widened(xs);
  const [y0, y1] = flat ? [-1.5, 1.5] : widened(ys);
  return { x0, x1, y0, y1 };
}

function widened(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const size = high - low || Math.abs(high) || 1;
  return [low - 0.08 * size, high + 0.08 * size];
}

// Whether a rectangle is well shown by another: the picture shouldn't jump at each version.
function fits(domain, wanted) {
  const inside = wanted.x0 >= domain.x0 && wanted.x1 <= domain.x1 && wanted.y0 >= domain.y0 && wanted.y1 <= domain.y1;
  const large = (low, high) => wanted[high] - wanted[low] > 0.5 * (domain[high] - domain[low]);
  return inside && large("x0", "x1") && large("y0", "y1");
}

export function ticks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(Math.abs(value) < step / 1e6 ? 0 : value);
  return found;
}

function paintGrid(context, plane) {
  const { inner, domain, axes, size } = plane;
  const bottom = MARGIN.top + inner.height;
  context.fillStyle = colour("--muted");
  context.strokeStyle = colour("--grid");
  context.lineWidth = 1;
  context.textAlign = "center";
  context.textBaseline = "top";
  context.beginPath();
  for (const value of ticks(domain.x0, domain.x1, inner.width / 90)) {
    const [x] = plane.at(value, domain.y0);
    context.moveTo(Math.round(x) + 0.5, MARGIN.top);
    context.lineTo(Math.round(x) + 0.5, bottom);
    context.fillText(number(value), x, bottom + 4);
  }
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of axes.y ? ticks(domain.y0, domain.y1, inner.height / 60) : []) {
    const [, y] = plane.at(domain.x0, value);
    context.moveTo(MARGIN.left, Math.round(y) + 0.5);
    context.lineTo(size.width - MARGIN.right, Math.round(y) + 0.5);
    context.fillText(number(value), MARGIN.left - 5, y);
  }
  context.stroke();
  context.fillStyle = colour("--ink");
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(axisText(axes.x, context, inner.width), MARGIN.left + inner.width / 2, size.height - 3);
  if (!axes.y) return;
  context.save();
  context.translate(3, MARGIN.top + inner.height / 2);
  context.rotate(-Math.PI / 2);
  context.textBaseline = "top";
  context.fillText(axisText(axes.y, context, inner.height), 0, 0);
  context.restore();
}

function axisText({ label, share }, context, room) {
  const end = Number.isFinite(share) ? ` (${percent(share)} of the variance)` : "";
  let text = label + end;
  for (let length = label.length; length > 4 && context.measureText(text).width > room; length--) text = `${label.slice(0, length)}…${end}`;
  return text;
}
