// The screen of one model.

import { ApiError, follow, get, modelPath, noteServer, now, query, quietly } from "./api.js";
import { ActionPanel } from "./actions.js";
import { isColour } from "./colours.js";
import { h, replace, setText } from "./dom.js";
import { ago, clock, count, NONE, number, plural, printable, rate, short } from "./format.js";
import { AlertPanel, DeadPanel } from "./letters.js";
import { componentsOf, kindWords, scoreWords } from "./model_data.js";
import { phaseMark } from "./phases.js";
import { PicturePanel } from "./picture.js";
import { PlanePanel } from "./plane_panel.js";
import { ScorePanel } from "./score.js";
import { VersionsPanel } from "./versions.js";
import { WeightsPanel } from "./weights.js";

const POINTS = 1000;
const RETRY_MS = 3000;

export function modelScreen(main, name, parameters) {
  const view = new ModelView(main, name, { x: parameters.get("x"), y: parameters.get("y") });
  view.load();
  return view;
}

class ModelView {
  constructor(main, name, axes) {
    this.main = main;
    this.name = name;
    this.axes = axes;
    this.selected = null;
    this.replay = null;
    this.title = h("h1", {}, printable(name, 300));
    this.state = h("p");
    this.facts = h("dl", { class: "facts" });
    this.trouble = h("div", { class: "trouble", role: "status" });
    this.dead = new DeadPanel();
    this.actions = new ActionPanel(name, name);
    this.content = h("div", {}, h("p", { class: "empty" }, "Reading the model…"));
    document.title = `${printable(name, 100)} · streamclust`;
    main.replaceChildren(
      h("p", { class: "crumbs" }, h("a", { href: "#/" }, "All models")),
      h("div", { class: "head" }, this.title, this.state), this.trouble,
      h("section", { class: "panel", "aria-label": "Figures" }, this.facts), this.content);
    this.facts.parentElement.hidden = true;
    this.ages = setInterval(() => this.row && this.showRow(), 1000);
  }

  close() {
    this.stop?.();
    this.reading?.abort();
    clearTimeout(this.timer);
    clearInterval(this.ages);
    this.closePanels();
    this.actions.close();
  }

  closePanels() {
    for (const panel of [this.planePanel, this.scorePanel, this.weightsPanel, this.versions]) panel?.close();
    this.planePanel = null;
  }

  server({ actions }) {
    this.allowed = actions;
    this.actions.allow(actions);
  }

  repaint() {
    this.planePanel?.plane.draw();
    this.scorePanel?.repaint();
    this.weightsPanel?.repaint();
  }

  async load() {
    clearTimeout(this.timer);
    this.reading?.abort();
    this.reading = new AbortController();
    try {
      const data = await get(modelPath(this.name) + query({ ...this.axes, points: POINTS }), this.reading.signal);
      this.show(data);
      this.listen(data.last_event_id);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.fail(error);
    }
  }

  fail(error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 400 && this.axes.x) return this.setAxes({ x: "", y: "" }); // another model of this name had this feature
    this.timer = setTimeout(() => this.load(), RETRY_MS);
    if (error.code === "unknown_model") return this.showUnknown();
    if (!this.row) replace(this.content, h("p", { class: "empty" }, printable(error.message)));
    return undefined;
  }

  // The model was deleted, or there was never one of this name.
  showUnknown() {
    this.stop?.();
    this.closePanels();
    const words = this.row ? "This model was deleted. It appears here again when it is learned again. " : "No model has this name. It appears here when it is configured or learned. ";
    Object.assign(this, { row: null, data: null, selected: null, replay: null });
    this.facts.parentElement.hidden = true;
    replace(this.state);
    replace(this.trouble);
    if (this.content.dataset.unknown) return;
    this.content.replaceWith((this.content = h("div", { "data-unknown": "yes" }, h("p", { class: "empty" }, words, h("a", { href: "#/" }, "Show all models")))));
  }

  // Follow what happens to the model after the answer that is shown.
  listen(lastEventId) {
    this.stop?.();
    const again = () => this.load();
    this.stop = follow(modelPath(this.name, "updates") + query({ ...this.axes, last_event_id: lastEventId }), {
      again,
      reset: again,
      status: (row) => this.takeRow(row),
      version: (model) => this.takeVersion(model),
      points: (points) => this.planePanel?.addPoints(points),
      event: (event) => this.scorePanel?.addEvent(event),
      dead: (dead) => this.dead.add(dead),
      alert: (alert) => this.alerts?.add(alert),
      action: (action) => this.actions.take(action),
      server: (server) => noteServer({ server }),
    });
  }

  show(data) {
    this.data = data;
    this.facts.parentElement.hidden = false;
    this.metric = data.metric;
    this.dead.set(data.dead);
    this.actions.label = data.row.label;
    this.takeRow(data.row);
    if (!data.model) return this.showWaiting();
    if (!this.planePanel) this.build();
    this.planePanel.replay = null;
    this.planePanel.plane.past = false;
    this.model = data.model;
    this.setColours(data.model);
    this.planePanel.set(data);
    this.scorePanel.set(data.history, data.events, data.model.score_name, data.metric);
    this.scorePanel.setReplay(null);
    this.alerts.set(data.alerts);
    this.showComponents(data.model);
    quietly(this.versions.load());
    setText(this.pointsError, data.points_error ? printable(data.points_error, 300) : "");
    this.actions.setVersions(data.model.version);
  }

  build() {
    const colourOf = (id) => this.planePanel.plane.colour(id);
    this.planePanel = new PlanePanel({
      onSelect: (id) => this.select(id), onAxes: (axes) => this.setAxes(axes), onReplay: (version) => this.showVersion(version),
    });
    this.weightsPanel = new WeightsPanel((id) => this.select(id), colourOf);
    this.scorePanel = new ScorePanel((version) => this.pick(version));
    this.versions = new VersionsPanel(this.name, (version) => this.pick(version));
    this.alerts = new AlertPanel(colourOf);
    this.picture = new PicturePanel();
    this.pointsError = h("p", { class: "muted small" });
    this.planePanel.element.append(this.pointsError);
    this.content.replaceWith((this.content = h("div", { class: "stack" },
      h("div", { class: "main-grid" }, this.planePanel.element, this.weightsPanel.element),
      this.picture.element, this.scorePanel.element,
      h("div", { class: "pair" }, this.alerts.element, this.dead.element),
      this.versions.element, this.actions.element)));
  }

  showWaiting() {
    this.closePanels();
    this.actions.setVersions(null);
    const { warm_up: warmUp, waiting } = this.row;
    const of = warmUp?.of ? `waiting for ${plural(warmUp.of, "point")}, ${count(warmUp.points)} there` : warmUp ? `${plural(warmUp.points, "point")} there` : "";
    const lines = waiting.filter((text) => !(warmUp && text.startsWith("warming up"))).map((text) => printable(text[0].toUpperCase() + text.slice(1), 400));
    const message = h("section", { class: "panel", "aria-label": "No version yet" },
      h("p", { class: "empty" }, h("strong", {}, "No model yet"), of ? `: ${of}. ` : ". ",
        ...lines.map((text) => `${text}. `),
        !this.row.worker && h("span", {}, "No worker learns it: run ", h("code", {}, "streamclust worker"), ".")),
      warmUp?.of && h("progress", { max: warmUp.of, value: warmUp.points, "aria-label": "Points of the warm-up" }));
    if (this.content.dataset.waiting) {
      replace(this.content.firstElementChild, ...message.childNodes);
      return;
    }
    this.content.replaceWith((this.content = h("div", { class: "stack", "data-waiting": "yes" }, message, this.dead.element, this.actions.element)));
  }

  takeRow(row) {
    this.row = row;
    this.showRow();
    if (this.data && !this.data.model) {
      if (row.version) this.load();
      else this.showWaiting();
    }
  }

  showRow() {
    const { row } = this;
    setText(this.title, printable(row.label, 300));
    replace(this.state, phaseMark(row.phase));
    this.actions.setPaused(row.paused);
    const reasons = [row.reason, ...(this.data?.model ? row.waiting : [])].filter((text) => text && text !== "never published");
    if (row.phase === "stopped" && !row.worker) reasons.unshift(`No worker learns this model${row.lag ? `; ${plural(row.lag, "entry waits", "entries wait")}` : ""}. Run streamclust worker.`);
    replace(this.trouble, reasons.map((text) => h("p", { class: `notice ${row.failed ? "bad" : "warn"}` }, printable(text, 600))));
    const figures = [
      ["Kind", row.kind ? kindWords(row) : NONE, this.data?.covariance_type ?? (this.metric === "cosine" ? "cosine" : "")],
      ["Size", row.kind ? count(row.n_components) : NONE, row.kind && `${row.n_components === 1 ? "component" : "components"}, ${plural(row.n_features, "feature")}`],
      ["Version", count(row.version), row.published_ms && ago(row.published_ms, now())],
      ["Points learned", count(row.points), ""],
      ["Rate", rate(row.rate), "points/s"],
      ["Lag", count(row.lag), "entries"],
      ["Score", number(row.score), row.score_name && (row.score_name === "inertia" ? "inertia per point" : "nats per point"), row.score_name && scoreWords(row.score_name, this.metric)],
      ["Dead letters", short(row.dead), "points"],
      ["Lost", row.lost ? `${row.lost.unknown ? "≥ " : ""}${count(row.lost.entries)}` : NONE, "entries"],
      ["Drifts", count(row.drifts), ""],
      ["Newest point", ago(row.event_time_ms, now()), "", clock(row.event_time_ms)],
      ["Worker", row.worker ? printable(row.worker, 80) : "none", ""],
    ];
    replace(this.facts, figures.map(([label, value, unit, title]) =>
      h("div", { title: title || null, "data-figure": label }, h("dt", {}, label), h("dd", {}, value, unit && value !== NONE && h("small", {}, ` ${unit}`)))));
  }

  takeVersion(model) {
    if (!this.planePanel) return this.load();
    if (this.model.version >= model.version) return undefined;
    this.model = model;
    if (!this.replay) this.setColours(model);
    this.planePanel.addVersion(model);
    this.scorePanel.addVersion(model);
    this.versions.add(model);
    this.actions.setVersions(model.version);
    if (!this.replay) this.showComponents(model);
    return undefined;
  }

  // Return the colours of the components if the features are those of a colour, else null.
  swatchesOf({ swatches }) {
    return this.data.named && !isColour(this.data.features) ? null : swatches;
  }

  setColours(model) {
    const swatches = this.swatchesOf(model);
    this.planePanel.plane.ownColours = swatches && new Map(model.components.id.map((id, place) => [id, swatches[place]]));
  }

  showComponents(model) {
    const { means, codebook } = model;
    const swatches = this.swatchesOf(model);
    this.weightsPanel.set(componentsOf(model), { means, swatches, codebook, features: this.data.features });
    this.picture.set(swatches);
  }

  select(id) {
    this.selected = id;
    this.planePanel.plane.select(id);
    this.weightsPanel.select(id);
  }

  setAxes(axes) {
    this.axes = axes;
    const text = query(axes);
    history.replaceState(null, "", `#/m/${encodeURIComponent(this.name)}${text}`);
    this.load();
  }

  changed(parameters) {
    this.axes = { x: parameters.get("x"), y: parameters.get("y") };
    this.load();
  }

  // Show a version that was picked in a chart or a table.
  pick(version) {
    this.planePanel.stop();
    this.planePanel.showVersion(version === this.model.version ? null : version);
    this.planePanel.element.scrollIntoView({ block: "nearest" });
  }

  // Show an older version; null shows the newest one. Only the last wanted version is fetched.
  async showVersion(version) {
    this.replay = version;
    this.scorePanel.setReplay(version);
    this.versions.setReplay(version);
    if (!version) {
      this.setColours(this.model);
      this.planePanel.showComponents(componentsOf(this.model), true);
      this.showComponents(this.model);
      return;
    }
    if (this.planePanel.busy) return;
    this.planePanel.busy = true;
    try {
      const model = await get(modelPath(this.name, "versions", version) + query(this.axes));
      if (!this.planePanel) return;
      if (this.replay !== null) {
        this.setColours(model);
        this.planePanel.showComponents(componentsOf(model), true);
        this.showComponents(model);
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!this.planePanel) return;
      this.planePanel.busy = false;
      if (error.code === "unknown_version") return this.planePanel.forget(version);
      setText(this.planePanel.caption, printable(error.message, 300));
      return;
    }
    this.planePanel.busy = false;
    if (this.replay && this.replay !== version) this.showVersion(this.replay);
  }
}
