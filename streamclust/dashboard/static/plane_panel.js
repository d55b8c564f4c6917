// The panel of the plane: choice of axes, zoom, legend, and the scrubber through the versions.

import { now } from "./api.js";
import { h, replace, setText, svg } from "./dom.js";
import { ago, clock, count, number, plural, printable } from "./format.js";
import { axesOf, componentsOf, pointsOf, REASONS } from "./model_data.js";
import { Plane } from "./plane.js";

const PLAY_MS = 140;
const RECENT = 30; // versions whose births and deaths are marked

export class PlanePanel {
  // onSelect(id), onAxes({ x, y }), onReplay(version or null)
  constructor({ onSelect, onAxes, onReplay }) {
    this.onAxes = onAxes;
    this.onReplay = onReplay;
    this.plane = new Plane(onSelect);
    this.versions = [];
    this.facts = new Map(); // version -> { reason, published_ms, score }
    this.playing = null;
    this.xChoice = h("select", { onchange: () => this.chooseAxes(this.xChoice, this.yChoice) });
    this.yChoice = h("select", { onchange: () => this.chooseAxes(this.yChoice, this.xChoice) });
    const zoom = (label, text, action) => h("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
    this.choices = h("div", { class: "row" }, h("label", { class: "field" }, "Horizontal axis", this.xChoice), h("label", { class: "field" }, "Vertical axis", this.yChoice));
    this.tools = h("div", { class: "tools" }, this.choices,
      h("div", { class: "row", role: "group", "aria-label": "Zoom" },
        zoom("Zoom in", "+", () => this.plane.zoom(1 / 1.5)), zoom("Zoom out", "−", () => this.plane.zoom(1.5)), zoom("Show all", "Fit", () => this.plane.fit())));
    this.legend = h("ul", { class: "legend" });
    this.caption = h("p", { class: "readout small", role: "status" });
    this.playButton = h("button", { type: "button", onclick: () => this.togglePlay() }, "Play");
    this.range = h("input", { type: "range", min: 0, step: 1, "aria-label": "Version that is shown", oninput: () => this.scrub(Number(this.range.value)) });
    this.newestButton = h("button", { type: "button", onclick: () => this.live() }, "Newest");
    this.scrubber = h("div", { class: "scrubber" }, this.playButton, this.range, this.newestButton);
    this.element = h("section", { class: "panel", "aria-label": "Plane" }, h("header", {}, h("h2", {}, "Components and recent points")),
      this.tools, this.plane.box, this.legend, this.scrubber, this.caption);
  }

  close() {
    clearInterval(this.playing);
    this.plane.close();
  }

  // Show a whole answer of the server.
  set(data) {
    const { plane } = this;
    const components = componentsOf(data.model);
    const { projection, model_id: id } = data.model;
    // Another principal plane of the same model is turned like the one before: components move there.
    const moves = this.shown?.id === id && this.shown?.kind === "principal" && projection.kind === "principal";
    const before = moves ? plane.components : [];
    this.shown = { id, kind: projection.kind };
    this.newest = components;
    plane.reset();
    plane.components = before;
    plane.setAxes(axesOf(data.model.projection));
    this.flat = !plane.axes.y;
    plane.chooseTrailed(components);
    const { version, id: trailed, x, y } = data.trails;
    version.forEach((_, place) => {
      const ids = trailed ? trailed[place] : x[place].map((__, row) => row);
      ids.forEach((each, row) => plane.pushTrail(each, x[place][row], y[place][row]));
    });
    this.markEvents(data);
    plane.addPoints(pointsOf(data.points, this.flat));
    plane.setComponents(components, { animate: moves });
    this.source = data.model.covariance_source;
    this.setHistory(data.history);
    this.showChoices(data);
    this.showLegend();
    this.describe(data.model, components);
  }

  setHistory({ version, reason, published_ms: published, score }) {
    this.versions = [...version];
    this.facts = new Map(version.map((each, place) => [each, { reason: reason[place], published_ms: published[place], score: score[place] }]));
    this.showScrubber();
  }

  // Take a version that has just been published.
  addVersion(model) {
    const components = componentsOf(model);
    const { plane } = this;
    if (this.versions.at(-1) < model.version || !this.versions.length) {
      this.versions.push(model.version);
      this.facts.set(model.version, model);
      if (this.versions.length > 1000) this.facts.delete(this.versions.shift());
    }
    plane.forgetMarks(this.versions.at(-RECENT) ?? 0);
    this.markBirths(this.newest, components, model.version);
    this.newest = components;
    plane.setAxes(axesOf(model.projection)); // the shares of the variance have changed
    plane.chooseTrailed(components);
    for (const { id, x, y } of components) plane.pushTrail(id, x, y);
    if (this.replay === undefined || this.replay === null) plane.setComponents(components);
    this.showScrubber();
    this.describe(model, components);
  }

  // Mark the births and deaths of the last versions that have trails.
  markEvents({ events, trails }) {
    const { version, id, x, y } = trails;
    const mark = (kind, place, component) => {
      const row = id?.[place]?.indexOf(component) ?? -1;
      if (row >= 0) this.plane.mark(kind, component, x[place][row], y[place][row], version[place]);
    };
    for (const event of events) {
      const place = version.indexOf(event.version);
      if (place < version.length - RECENT || !event.ids) continue;
      for (const component of event.ids) {
        if (event.kind === "birth") mark("born", place, component);
        else if (event.kind === "death") mark("died", place - 1, component);
      }
    }
  }

  markBirths(before, after, version) {
    const [old, fresh] = [new Map(before.map((each) => [each.id, each])), new Map(after.map((each) => [each.id, each]))];
    for (const { id, x, y } of before) if (!fresh.has(id)) this.plane.mark("died", id, x, y, version);
    for (const { id, x, y } of after) if (!old.has(id)) this.plane.mark("born", id, x, y, version);
    this.showLegend();
  }

  addPoints(columns) {
    this.plane.queuePoints(pointsOf(columns, this.flat));
  }

  describe({ version }, components) {
    const shown = components.length > 100 ? "" : " The table of components has their shares.";
    this.plane.describe(`Version ${count(version)}: ${plural(components.length, "component")} and recent points in the plane.${shown}`);
  }

  showChoices({ features, model }) {
    const { kind, axes } = model.projection;
    const options = [features.length > 2 && h("option", { value: "" }, "principal plane"), ...features.map((feature, place) => h("option", { value: place }, printable(feature, 60)))];
    for (const [place, choice] of [this.xChoice, this.yChoice].entries()) {
      replace(choice, options.filter(Boolean).map((option) => option.cloneNode(true)));
      const index = kind === "features" && axes[place] ? features.indexOf(axes[place].label) : -1;
      choice.value = index < 0 ? "" : String(index);
    }
    this.choices.hidden = this.flat;
  }

  // Both axes are those of the principal plane, or both are features.
  chooseAxes(changed, other) {
    if (changed.value === "") other.value = "";
    else if (other.value === "" || other.value === changed.value) other.value = changed.value === "0" ? "1" : "0";
    this.onAxes({ x: this.xChoice.value, y: this.yChoice.value });
  }

  showLegend() {
    const icon = (...shapes) => svg("svg", { width: 18, height: 14, viewBox: "0 0 18 14", "aria-hidden": "true" }, shapes);
    const circle = (r, more) => svg("circle", { cx: 9, cy: 7, r, ...more });
    const items = [
      [icon(circle(4, { class: "dots" })), "centroid, larger with more points"],
      this.plane.components.some((each) => each.cov) && [icon(svg("ellipse", { cx: 9, cy: 7, rx: 8, ry: 4.5 })), this.source === "points" ? "two standard deviations of recent points" : "two standard deviations"],
      [icon(...[4, 9, 13].map((x, place) => svg("rect", { class: "dots", x, y: 3 + 3 * place, width: 3, height: 3 }))), "recent point, colour of its component"],
      this.plane.hasTrails && [icon(svg("path", { d: "M1 11L7 5L12 8L17 3" })), "trail over recent versions"],
      this.flat && [icon(...[3, 7, 11].map((y, place) => svg("rect", { class: "dots", x: 4 + 4 * place, y: y - 2, width: 3, height: 3 }))), "the height of a point has no meaning: the model has one feature"],
      this.plane.marks.some((mark) => mark.kind === "born") && [icon(circle(6, { "stroke-dasharray": "3 2" })), "born"],
      this.plane.marks.some((mark) => mark.kind === "died") && [icon(svg("path", { d: "M5 3l8 8M13 3l-8 8" })), "gone"],
    ];
    replace(this.legend, items.filter(Boolean).map(([shape, text]) => h("li", {}, shape, text)));
  }

  // -- the scrubber

  showScrubber() {
    const last = this.versions.length - 1;
    this.scrubber.hidden = last < 1;
    this.range.max = String(Math.max(0, last));
    const place = this.replay ? this.versions.indexOf(this.replay) : last;
    this.range.value = String(place < 0 ? last : place);
    const version = this.versions[place < 0 ? last : place];
    const fact = this.facts.get(version) ?? {};
    const words = [`Version ${count(version)}`, REASONS[fact.reason] ?? fact.reason, Number.isFinite(fact.score) && `score ${number(fact.score)}`];
    this.range.setAttribute("aria-valuetext", words.filter(Boolean).join(", "));
    this.newestButton.disabled = !this.replay;
    setText(this.playButton, this.playing ? "Pause" : "Play");
    if (!version) return setText(this.caption, "");
    const when = this.replay ? `${clock(fact.published_ms)} (${ago(fact.published_ms, now())}); grey: points of now` : "the newest, moves as the model learns";
    setText(this.caption, `${words.filter(Boolean).join(" · ")} · ${when}`);
  }

  scrub(place) {
    this.showVersion(place >= this.versions.length - 1 && !this.playing ? null : this.versions[place]);
  }

  // A version that was removed from the server, with all before it, can't be shown.
  forget(version) {
    this.versions = this.versions.filter((each) => each > version);
    if (this.replay) this.showVersion(this.versions[0] ?? null);
  }

  showVersion(version) {
    this.replay = version;
    this.plane.past = Boolean(version);
    this.showScrubber();
    this.onReplay(version);
  }

  live() {
    this.stop();
    this.showVersion(null);
  }

  stop() {
    clearInterval(this.playing);
    this.playing = null;
    this.showScrubber();
  }

  // Show the versions one after another, from the first one or from the one that is shown.
  togglePlay() {
    if (this.playing) return this.stop();
    let place = this.replay ? this.versions.indexOf(this.replay) : 0;
    const step = Math.max(1, Math.ceil(this.versions.length / 300));
    this.playing = setInterval(() => {
      if (this.busy) return;
      place += step;
      if (place >= this.versions.length) return this.live();
      this.showVersion(this.versions[place]);
    }, PLAY_MS);
    this.showVersion(this.versions[place]);
  }

  showComponents(components, animate) {
    this.plane.setComponents(components, { animate });
  }
}
