// Draws the plane: points on the front canvas, and all else on the one behind it.

import { colour, css } from "./dom.js";
import { digitsFor, number, percent } from "./format.js";
import { isLarge, MARGIN, SIGMAS } from "./plane_domain.js";

const MOST_LABELS = 48;

export function paintPoints(plane) {
  const context = plane.front.getContext("2d");
  context.clearRect(0, 0, plane.size.width, plane.size.height);
  clip(context, plane);
  const total = plane.points.length;
  const side = total > 1000 ? 2.5 : 3.5;
  const rim = plane.ownColours && !plane.past; // a white point on a white ground needs one
  context.strokeStyle = colour("--control");
  context.lineWidth = 0.5;
  for (let place = 0; place < total; place++) {
    const [x, y, code] = plane.points[place];
    const [px, py] = plane.at(x, y);
    const dim = plane.selected !== null && code !== plane.selected ? 0.25 : 1;
    context.globalAlpha = dim * (total - place < 60 ? 1 : 0.25 + 0.4 * (place / total));
    context.fillStyle = plane.past ? colour("--control") : plane.colour(code);
    context.fillRect(px - side / 2, py - side / 2, side, side);
    if (rim) context.strokeRect(px - side / 2, py - side / 2, side, side);
  }
  context.restore();
}

// Draw the grid, the trails and the components where they are now.
export function paintBack(plane, shown) {
  const context = plane.back.getContext("2d");
  context.clearRect(0, 0, plane.size.width, plane.size.height);
  context.font = `12px ${css("--font")}`;
  paintGrid(context, plane);
  clip(context, plane);
  paintTrails(context, plane);
  const masses = shown.map((each) => each.mass);
  const sizes = { top: Math.max(...masses, Number.MIN_VALUE), total: masses.reduce((sum, mass) => sum + mass, 0) };
  for (const each of shown) paintComponent(context, plane, each, sizes);
  paintMarks(context, plane);
  paintLabels(context, plane, shown);
  context.restore();
}

function paintTrails(context, plane) {
  context.lineWidth = 2;
  for (const [id, trail] of plane.trails) {
    if (trail.length < 2) continue;
    context.strokeStyle = plane.colour(id);
    const faint = plane.selected !== null && plane.selected !== id ? 0.2 : 1;
    for (let place = 1; place < trail.length; place++) {
      context.globalAlpha = faint * (0.25 + 0.6 * (place / trail.length));
      context.beginPath();
      context.moveTo(...plane.at(...trail[place - 1]));
      context.lineTo(...plane.at(...trail[place]));
      context.stroke();
    }
  }
  context.globalAlpha = 1;
}

function paintComponent(context, plane, { id, x, y, cov, mass }, { top, total }) {
  const [px, py] = plane.at(x, y);
  const own = plane.colour(id);
  const many = plane.components.length > 100;
  context.globalAlpha = plane.selected !== null && plane.selected !== id ? 0.3 : 1;
  context.strokeStyle = context.fillStyle = own;
  if (cov) {
    const { major, minor, angle } = ellipseOf(plane, cov);
    context.beginPath();
    context.ellipse(px, py, major, minor, angle, 0, 2 * Math.PI);
    if (plane.ownColours) {
      context.strokeStyle = colour("--control");
      context.lineWidth = many ? 1.25 : 3;
      context.stroke();
      context.strokeStyle = own;
    }
    context.lineWidth = plane.selected === id ? 3 : many ? 0.75 : 1.75;
    context.stroke();
    if (!many && isLarge(mass, total, plane.components.length)) {
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
  context.lineWidth = plane.selected === id ? 3 : 1.5;
  context.strokeStyle = colour(plane.selected === id ? "--ink" : plane.ownColours ? "--control" : "--surface");
  context.stroke();
  context.globalAlpha = 1;
}

// Return the half axes and the angle of a covariance's curve, in pixels.
function ellipseOf(plane, [xx, xy, yy]) {
  const sx = plane.inner.width / (plane.domain.x1 - plane.domain.x0);
  const sy = -plane.inner.height / (plane.domain.y1 - plane.domain.y0);
  const [a, b, c] = [xx * sx * sx, xy * sx * sy, yy * sy * sy];
  const middle = (a + c) / 2;
  const apart = Math.hypot((a - c) / 2, b);
  const axis = (value) => SIGMAS * Math.sqrt(Math.max(0, value));
  return { major: axis(middle + apart), minor: axis(middle - apart), angle: 0.5 * Math.atan2(2 * b, a - c) };
}

function paintMarks(context, plane) {
  context.lineWidth = 2;
  for (const { kind, x, y } of plane.marks) {
    const [px, py] = plane.at(x, y);
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
function paintLabels(context, plane, shown) {
  const taken = [];
  const first = (each) => (each.id === plane.selected ? Infinity : each.mass);
  const largest = [...shown].sort((one, other) => first(other) - first(one)).slice(0, MOST_LABELS);
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.lineJoin = "round";
  for (const { id, x, y } of largest) {
    const [px, py] = plane.at(x, y);
    const width = context.measureText(id).width + 4;
    const isAtTheEdge = px + 11 + width > MARGIN.left + plane.inner.width;
    const box = { x: isAtTheEdge ? px - 11 - width : px + 11, y: py - 8, width, height: 16 };
    if (taken.some((other) => overlap(box, other))) continue;
    taken.push(box);
    context.lineWidth = 3;
    context.strokeStyle = colour("--surface");
    context.strokeText(id, box.x, py);
    context.fillStyle = colour("--ink");
    context.fillText(id, box.x, py);
  }
}

function clip(context, { inner }) {
  context.save();
  context.beginPath();
  context.rect(MARGIN.left, MARGIN.top, inner.width, inner.height);
  context.clip();
}

function overlap(one, other) {
  return (
    one.x < other.x + other.width && other.x < one.x + one.width && one.y < other.y + other.height && other.y < one.y + one.height
  );
}

// Return round values from low to high.
function ticks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  const found = [];
  const first = Math.ceil(low / step);
  for (let place = 0; place <= 2 * most + 2 && (first + place) * step <= high; place++) found.push((first + place) * step);
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
    context.fillText(tickText(value, domain.x1 - domain.x0), x, bottom + 4);
  }
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of axes.y ? ticks(domain.y0, domain.y1, inner.height / 60) : []) {
    const [, y] = plane.at(domain.x0, value);
    context.moveTo(MARGIN.left, Math.round(y) + 0.5);
    context.lineTo(size.width - MARGIN.right, Math.round(y) + 0.5);
    context.fillText(tickText(value, domain.y1 - domain.y0), MARGIN.left - 5, y);
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

const tickText = (value, size) => number(value, digitsFor([value], size));

function axisText({ label, share }, context, room) {
  const end = Number.isFinite(share) ? ` (${percent(share)} of the variance)` : "";
  let text = label + end;
  for (let length = label.length; length > 4 && context.measureText(text).width > room; length--) text = `${label.slice(0, length)}…${end}`;
  return text;
}
