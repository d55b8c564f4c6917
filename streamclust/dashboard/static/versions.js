// The stored versions, and the difference between two of them.

import { ApiError, get, modelPath, now, query, quietly } from "./api.js";
import { h, replace, setText } from "./dom.js";
import { ago, clock, count, moment, NONE, number, percent, plural, printable } from "./format.js";
import { REASONS } from "./model_data.js";

const PAGE = 100;
const PAIRS = 40;
const GAP_MS = 5000; // the stream of updates may skip versions

export class VersionsPanel {
  constructor(name, onPick) {
    this.name = name;
    this.versions = []; // newest first
    this.most = 2 * PAGE; // that stay in the list while new ones arrive
    this.oldest = null;
    this.body = h("tbody");
    this.older = h("button", { type: "button", onclick: () => quietly(this.loadOlder()) }, "Load older versions");
    this.from = h("select");
    this.to = h("select");
    this.result = h("div", { role: "status" });
    this.body.addEventListener("click", ({ target }) => target.dataset.version && onPick(Number(target.dataset.version)));
    this.diffForm = h("div", { class: "row" },
      h("label", { class: "row" }, "Compare", this.from), h("label", { class: "row" }, "with", this.to),
      h("button", { type: "button", onclick: () => this.compare() }, "Show the difference"));
    this.element = h("section", { class: "panel", "aria-label": "Versions" }, h("header", {}, h("h2", {}, "Versions")), this.diffForm, this.result,
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Stored versions" }, h("table", { class: "stored" },
        h("thead", {}, h("tr", {}, ...[["Version", "number"], ["Published"], ["Reason"], ["Points", "number narrow-hidden"], ["Score", "number"]].map(([label, style]) => h("th", { scope: "col", class: style }, label)))), this.body)),
      h("div", { class: "row" }, this.older));
  }

  // Read the newest versions; older ones that were read before stay.
  async load() {
    clearTimeout(this.timer);
    this.timer = null;
    const found = await get(modelPath(this.name, "versions") + query({ limit: PAGE }));
    const last = found.versions.at(-1)?.version ?? 0;
    this.versions = [...found.versions, ...this.versions.filter((each) => each.version < last && each.version >= found.oldest)];
    this.oldest = found.oldest;
    this.show();
  }

  close() {
    clearTimeout(this.timer);
  }

  async loadOlder() {
    const found = await get(modelPath(this.name, "versions") + query({ limit: PAGE, before: this.versions.at(-1).version }));
    this.versions.push(...found.versions);
    this.most = Math.max(this.most, this.versions.length);
    this.oldest = found.oldest;
    this.show();
  }

  add(model) {
    const newest = this.versions[0]?.version;
    if (newest >= model.version) return;
    if (newest < model.version - 1) this.timer ??= setTimeout(() => quietly(this.load()), GAP_MS);
    this.versions.unshift(model);
    this.versions.length = Math.min(this.versions.length, this.most);
    this.show();
  }

  setReplay(version) {
    this.replay = version;
    this.show();
  }

  show() {
    this.diffForm.hidden = this.versions.length < 2;
    this.older.hidden = !this.versions.length || !(this.versions.at(-1).version > this.oldest);
    replace(this.body, this.versions.map((each) => h("tr", { "data-key": each.version, "data-selected": each.version === this.replay },
      h("td", { class: "number" }, h("button", { type: "button", class: "link", "data-version": each.version, "aria-label": `Show version ${each.version} in the plane` }, count(each.version))),
      h("td", { class: "time", title: clock(each.published_ms) }, moment(each.published_ms, now())),
      h("td", {}, each.error ? h("span", { class: "bad" }, printable(each.error, 200)) : (REASONS[each.reason] ?? printable(each.reason ?? NONE))),
      h("td", { class: "number narrow-hidden" }, count(each.points)), h("td", { class: "number" }, number(each.score)))));
    const [from, to] = [this.from.value, this.to.value];
    const options = () => this.versions.map((each) => h("option", { value: each.version }, `version ${count(each.version)}`));
    replace(this.from, options());
    replace(this.to, options());
    this.from.value = this.chosen && from ? from : String(this.versions.at(-1)?.version ?? "");
    this.to.value = this.chosen && to ? to : String(this.versions[0]?.version ?? "");
    if (!this.from.value) this.from.selectedIndex = this.versions.length - 1; // the chosen one was trimmed
    if (!this.to.value) this.to.selectedIndex = 0;
  }

  // Show the difference of the chosen versions. If one isn't stored any more, take the oldest that is.
  async compare(isFirst = true) {
    this.chosen = true;
    const [one, other] = [Number(this.from.value), Number(this.to.value)].sort((a, b) => a - b);
    if (one === other) return replace(this.result, h("p", { class: "muted" }, "Choose two different versions."));
    try {
      const diff = await get(modelPath(this.name, "diff") + query({ from: one, to: other }));
      replace(this.result, diffTable(diff));
      return undefined;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (isFirst && error.code === "unknown_version") {
        await quietly(this.load());
        return this.compare(false);
      }
      replace(this.result, h("p", { class: "notice bad" }, printable(error.message)));
      return undefined;
    }
  }
}

function diffTable({ from, to, points_between: points, seconds_between: seconds, score, pairs, born, died, matching }) {
  const rows = pairs.from.map((id, place) => ({ id, to: pairs.to[place], moved: pairs.distance[place], before: pairs.weight_from[place], after: pairs.weight_to[place] }));
  rows.sort((one, other) => other.moved - one.moved);
  const top = Math.max(...rows.map((row) => row.moved), Number.MIN_VALUE);
  const words = [
    `From version ${count(from)} to ${count(to)}: ${plural(points, "point")}`, duration(seconds), `score ${number(score[0])} → ${number(score[1])}`,
    born.length && `born: ${listed(born)}`, died.length && `gone: ${listed(died)}`, matching === "assignment" && "components are matched by their distances",
  ];
  return [
    h("p", {}, `${words.filter(Boolean).join("; ")}. Distances are in the units of the features.`),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Difference of the versions" }, h("table", { class: "bars" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Component"), h("th", { scope: "col", class: "wide", colspan: 2 }, "Moved"), h("th", { scope: "col", class: "number" }, "Share"))),
      h("tbody", {}, rows.slice(0, PAIRS).map((row) => h("tr", {},
        h("th", { scope: "row" }, row.id === row.to ? String(row.id) : `${row.id} → ${row.to}`),
        h("td", { class: "wide" }, h("span", { class: "bar", style: { width: `${(100 * row.moved) / top}%` } })),
        h("td", { class: "number" }, number(row.moved, 3)),
        h("td", { class: "number" }, `${percent(row.before)} → ${percent(row.after)}`)))))),
    rows.length > PAIRS && h("p", { class: "muted small" }, `The ${count(PAIRS)} components that moved most, of ${count(rows.length)}.`),
  ];
}

const listed = (ids) => (ids.length > 8 ? `${ids.slice(0, 8).join(", ")} and ${count(ids.length - 8)} more` : ids.join(", "));

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  return ago(now() - seconds * 1e3, now()).replace(" ago", "").replace("just now", "less than 1 s");
}
