// The prequential score over time or points, with the events marked.

import { now } from "./api.js";
import { colour, css, h, replace, setText } from "./dom.js";
import { clock, count, digitsFor, moment, number, plural, printable } from "./format.js";
import { REASONS, scoreWords } from "./model_data.js";

const HEIGHT = 240;

const EVENTS = {
  drift: { glyph: "▼", label: "drift", line: true, colour: "--bad" },
  recluster: { glyph: "◆", label: "recluster", line: true, colour: "--c7" },
  refit: { glyph: "●", label: "refit", line: true, colour: "--accent" },
  rollback: { glyph: "◀", label: "rollback", line: true, colour: "--c3" },
  revived: { glyph: "+", label: "component revived", colour: "--muted" },
  resize: { glyph: "±", label: "number of components changed", colour: "--muted" },
  birth: { glyph: "○", label: "birth of a component", colour: "--muted" },
  death: { glyph: "×", label: "death of a component", colour: "--muted" },
};

let loading = null;

function loadPlot() {
  loading ??= new Promise((resolve, reject) => {
    const script = h("script", { src: new URL("vendor/uPlot.iife.min.js", import.meta.url) });
    script.onload = () => resolve(globalThis.uPlot);
    script.onerror = () => {
      loading = null;
      reject(new Error("the chart library can't be loaded"));
    };
    document.head.append(script);
  });
  return loading;
}

export class ScorePanel {
  constructor(onPick) {
    this.onPick = onPick;
    this.over = "time";
    this.history = { version: [], published_ms: [], points: [], score: [], reason: [] };
    this.events = [];
    this.box = h("div", { class: "chart", role: "img", "aria-label": "Score by version" });
    this.readout = h("p", { class: "readout small" });
    this.legend = h("ul", { class: "legend" });
    this.title = h("h2", {}, "Score");
    this.meaning = h("p", { class: "muted small" });
    this.list = h("tbody");
    this.summary = h("summary", {}, "Events");
    const select = h("select", { onchange: () => this.setOver(select.value) },
      h("option", { value: "time" }, "time"), h("option", { value: "points" }, "points learned"));
    this.element = h("section", { class: "panel", "aria-label": "Score" },
      h("header", {}, this.title, h("label", { class: "row small muted" }, "Over", select)),
      this.meaning, this.box, this.readout, this.legend,
      h("details", {}, this.summary, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Events" },
        h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), h("th", { scope: "col", class: "number" }, "Version"), h("th", { scope: "col" }, "Event"))), this.list))));
    this.observer = new ResizeObserver(() => this.plot?.setSize({ width: this.width, height: HEIGHT }));
    this.observer.observe(this.box);
  }

  get width() {
    return Math.max(200, this.box.clientWidth);
  }

  close() {
    this.observer.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  setOver(over) {
    this.over = over;
    this.plot?.destroy();
    this.plot = null;
    this.show();
  }

  repaint() {
    this.plot?.redraw(false, true);
  }

  set(history, events, scoreName, metric) {
    this.history = history;
    this.events = events;
    this.words = scoreWords(scoreName, metric);
    setText(this.title, scoreName === "log_likelihood" ? "Log-likelihood" : "Inertia");
    setText(this.meaning, `${this.words[0].toUpperCase()}${this.words.slice(1)}. Each point is scored before it is learned.`);
    this.show();
  }

  addVersion(model) {
    const columns = { version: model.version, published_ms: model.published_ms, points: model.points, score: model.score, reason: model.reason };
    if (this.history.version.at(-1) >= model.version) return;
    for (const [name, value] of Object.entries(columns)) {
      this.history[name].push(value);
      if (this.history[name].length > 1000) this.history[name].shift();
    }
    this.show();
  }

  addEvent(event) {
    this.events.push(event);
    if (this.events.length > 500) this.events.shift();
    this.show();
  }

  // Mark the version that the scrubber shows; null for the newest one.
  setReplay(version) {
    this.replay = version;
    this.plot?.redraw(false, false);
  }

  show() {
    this.showEvents();
    this.box.setAttribute("aria-label", this.description());
    if (this.history.version.length < 2) {
      if (!this.plot) replace(this.box, h("p", { class: "empty" }, this.firstScore()));
      this.box.classList.toggle("short", !this.plot);
      return;
    }
    this.box.classList.remove("short");
    loadPlot().then((uPlot) => this.draw(uPlot), (error) => replace(this.box, h("p", { class: "empty" }, `${error.message}.`)));
  }

  firstScore() {
    const [score] = this.history.score;
    if (Number.isFinite(score)) return `One version so far; its score is ${number(score)}.`;
    return this.history.version.length ? "The first version has no score: it was fitted to the points of the warm-up." : "No version yet.";
  }

  description() {
    const known = this.history.score.filter(Number.isFinite);
    if (!known.length) return "Score by version: no score yet";
    return `Score of ${plural(known.length, "version")}: from ${number(known[0])} to ${number(known.at(-1))}, ${this.words}`;
  }

  get x() {
    return this.over === "time" ? this.history.published_ms.map((time) => time / 1e3) : this.history.points;
  }

  draw(uPlot) {
    const data = [this.x, this.history.score.map((score) => (Number.isFinite(score) ? score : null))];
    if (this.plot) return this.plot.setData(data);
    if (!this.box.isConnected) return;
    this.box.replaceChildren();
    this.plot = new uPlot(this.options(), data, this.box);
    this.plot.over.addEventListener("click", () => {
      const { idx } = this.plot.cursor;
      if (Number.isInteger(idx)) this.onPick(this.history.version[idx]);
    });
  }

  options() {
    const font = `12px ${css("--font")}`;
    const axis = { stroke: () => colour("--muted"), font, grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { stroke: () => colour("--grid"), width: 1 } };
    const over = this.over === "time" ? { values: (_, splits) => timeTicks(splits), space: 64 } : { values: (_, values) => values.map((value) => count(value)), space: 90 };
    return {
      width: this.width, height: HEIGHT, legend: { show: false }, padding: [18, 28, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
      scales: { x: { time: this.over === "time" }, y: { range: (plot) => this.range(plot.data[1]) } },
      axes: [{ ...axis, ...over }, { ...axis, size: 64, values: (_, values) => values.map((value) => number(value, digitsFor(values, values[1] - values[0]))) }],
      series: [{}, { stroke: () => colour("--accent"), width: 1.75, points: { show: false }, spanGaps: true }],
      hooks: { draw: [(plot) => this.drawEvents(plot)], setCursor: [(plot) => this.showReadout(plot.cursor.idx)] },
    };
  }

  // Return the range of most scores: the first ones can be far worse than all others.
  range(scores) {
    const known = scores.filter(Number.isFinite);
    if (!known.length) return [0, 1];
    const sorted = [...known].sort((one, other) => one - other);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    const room = 3 * (at(0.9) - at(0.1) || Math.abs(at(0.5)) || 1);
    const low = Math.max(sorted[0], at(0.1) - room);
    const high = Math.min(sorted.at(-1), at(0.9) + room);
    const margin = 0.08 * (high - low || Math.abs(high) || 1);
    this.outside = known.filter((score) => score < low || score > high).length;
    return [low - margin, high + margin];
  }

  showReadout(place) {
    const { version, published_ms: published, points, score, reason } = this.history;
    const outside = this.outside ? ` ${plural(this.outside, "score is", "scores are")} outside the chart.` : "";
    if (!Number.isInteger(place) || place >= version.length) {
      setText(this.readout, `Point at the chart for figures; click to show that version in the plane.${outside}`);
      return;
    }
    const events = this.events.filter((event) => event.version === version[place]).map((event) => printable(event.text, 200));
    setText(this.readout, [`version ${count(version[place])}`, `score ${number(score[place])}`, clock(published[place]), plural(points[place], "point"), REASONS[reason[place]] ?? reason[place], ...events].join(" · "));
  }

  // Return where an event is on the x axis.
  placeOf(event) {
    if (this.over === "time" && Number.isFinite(event.time_ms)) return event.time_ms / 1e3;
    if (this.over === "points" && Number.isFinite(event.points)) return event.points;
    const place = this.history.version.indexOf(event.version);
    return place < 0 ? NaN : this.x[place];
  }

  drawEvents(plot) {
    const { ctx: context, bbox } = plot;
    const scale = devicePixelRatio || 1;
    context.save();
    context.font = `${12 * scale}px ${css("--font")}`;
    context.textAlign = "center";
    context.textBaseline = "bottom";
    const line = (x, style, dash) => {
      context.strokeStyle = style;
      context.lineWidth = scale;
      context.setLineDash(dash.map((each) => each * scale));
      context.beginPath();
      context.moveTo(x, bbox.top);
      context.lineTo(x, bbox.top + bbox.height);
      context.stroke();
    };
    for (const event of this.events) {
      const kind = EVENTS[event.kind];
      const x = kind ? plot.valToPos(this.placeOf(event), "x", true) : NaN;
      if (!(x >= bbox.left && x <= bbox.left + bbox.width)) continue;
      const own = colour(kind.colour);
      if (kind.line) line(x, own, [3, 3]);
      context.fillStyle = own;
      context.fillText(kind.glyph, x, bbox.top - 2 * scale);
    }
    const place = this.history.version.indexOf(this.replay);
    if (place >= 0) line(plot.valToPos(this.x[place], "x", true), colour("--ink"), []);
    context.restore();
  }

  showEvents() {
    const counts = new Map();
    for (const { kind } of this.events) if (EVENTS[kind]) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    replace(this.legend, [...counts].map(([kind, times]) =>
      h("li", {}, h("span", { "aria-hidden": "true", style: { color: `var(${EVENTS[kind].colour})` } }, EVENTS[kind].glyph), `${EVENTS[kind].label}: ${count(times)}`)));
    setText(this.summary, `Events (${count(this.events.length)})`);
    this.summary.parentElement.hidden = !this.events.length;
    replace(this.list, this.events.slice(-100).reverse().map((event) =>
      h("tr", {}, h("td", { class: "time", title: clock(event.time_ms) }, moment(event.time_ms, now())), h("td", { class: "number" }, count(event.version)), h("td", {}, printable(event.text, 400)))));
  }
}

// Return the texts of times on the axis: with the date where a day begins, with seconds only if needed.
function timeTicks(splits) {
  const within = splits.length > 1 && splits[1] - splits[0] < 1;
  const close = splits.length > 1 && splits[1] - splits[0] < 60;
  let day = "";
  return splits.map((seconds) => {
    const [date, time] = clock(seconds * 1e3).split(" ");
    const short = within ? `${time}.${String(Math.round(seconds * 1e3) % 1000).padStart(3, "0")}` : close ? time : time?.slice(0, 5);
    const text = day && date !== day ? date.slice(5) : short;
    day = date;
    return text;
  });
}
