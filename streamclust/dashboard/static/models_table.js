// The table of all models: a row per model, which becomes a card where there is little room.

import { now } from "./api.js";
import { h, replace, setText, svg } from "./dom.js";
import { ago, count, NONE, number, plural, printable, rate, short } from "./format.js";
import { kindWords } from "./model_data.js";
import { phaseMark } from "./phases.js";

const COLUMNS = [
  { label: "Model", sort: "name" },
  { label: "Phase", sort: "problems" },
  { label: "Lag", unit: "entries", sort: "lag", number: true },
  { label: "Age", unit: "of version", sort: "age", number: true },
  { label: "Rate", unit: "points/s", sort: "rate", number: true },
  { label: "Points", sort: "points", number: true },
  { label: "Version", number: true },
  { label: "Dead", unit: "points", sort: "dead", number: true },
  { label: "Lost", unit: "entries", sort: "lost", number: true },
  { label: "Alerts", number: true },
  { label: "Score", unit: "per point", number: true },
  { label: "Score by version" },
];

export const ORDERS = [["problems", "Problems first"], ...COLUMNS.filter(({ sort }) => sort && sort !== "problems").map(({ sort, label }) => [sort, label])];

export class ModelsTable {
  constructor(onSort) {
    this.heads = COLUMNS.map(({ label, unit, sort, number: isNumber }) => {
      const text = [label, unit && h("small", {}, ` ${unit}`)];
      return h("th", { scope: "col", role: "columnheader", class: isNumber ? "number" : null, "data-sort": sort },
        sort ? h("button", { type: "button", onclick: () => onSort(sort) }, text) : text);
    });
    this.rows = h("tbody", { role: "rowgroup" });
    this.element = h("table", { class: "models", role: "table" },
      h("caption", { class: "hidden-text" }, "Models with their phase, figures and score"),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, this.heads)), this.rows);
  }

  show(models, sort) {
    for (const head of this.heads) {
      if (head.dataset.sort !== sort) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", RISING.has(sort) ? "ascending" : "descending");
    }
    replace(this.rows, models.map((row) => h("tr", { role: "row", "data-key": row.name }, cells(row))));
  }

  // Show the ages of the versions at this moment.
  showAges() {
    for (const cell of this.rows.querySelectorAll("td[data-ms]")) setText(cell, age(Number(cell.dataset.ms || NaN)));
  }
}

const RISING = new Set(["name", "problems", "age"]);

const age = (timeMs) => ago(timeMs, now()).replace(" ago", "");

function cells(row) {
  const cell = (label, content, { isNumber = true, style = "", attributes = {} } = {}) =>
    h("td", { role: "cell", class: `${isNumber ? "number" : ""} ${style}`.trim() || null, "data-label": label, ...attributes }, content);
  const lost = row.lost && (row.lost.entries || row.lost.unknown);
  return [
    h("th", { scope: "row", role: "rowheader", class: "name" },
      h("a", { href: `#/m/${encodeURIComponent(row.name)}` }, printable(row.label)),
      h("span", { class: "why" }, why(row))),
    cell("Phase", phaseMark(row.phase), { isNumber: false }),
    cell("Lag (entries)", short(row.lag), { style: row.phase === "stopped" && row.lag ? "warn" : "" }),
    cell("Age", age(row.published_ms ?? NaN), { attributes: { "data-ms": row.published_ms ?? "" } }),
    cell("Rate (points/s)", rate(row.rate)),
    cell("Points", short(row.points)),
    cell("Version", count(row.version), { style: "optional" }),
    cell("Dead", short(row.dead), { style: row.dead ? "warn" : "" }),
    cell("Lost", row.lost ? `${row.lost.unknown ? "≥ " : ""}${short(row.lost.entries)}` : NONE, { style: lost ? "bad" : "optional" }),
    cell("Alerts", short(row.alerts), { style: row.alerts ? "" : "optional" }),
    cell(row.score_name === "log_likelihood" ? "Log-likelihood" : "Score", scoreText(row)),
    cell("Score by version", sparkline(row.scores), { isNumber: false, style: "spark-cell" }),
  ];
}

function why(row) {
  const size = `${plural(row.n_components, "component")}, ${plural(row.n_features, "feature")}`;
  const kind = row.kind ? `${kindWords(row)}, ${size}` : "no version yet";
  const reasons = [row.reason, ...row.waiting].filter((text) => text && text !== "never published");
  return [kind, ...reasons.map((text) => printable(text, 300))].join(" · ");
}

function scoreText(row) {
  if (!Number.isFinite(row.score)) return NONE;
  const [arrow, words] = row.score_name === "log_likelihood" ? ["↑", "log-likelihood, higher is better"] : ["↓", "inertia, lower is better"];
  return [number(row.score), " ", h("span", { class: "muted", title: words, "aria-hidden": "true" }, arrow), h("span", { class: "hidden-text" }, words)];
}

function sparkline(scores) {
  const known = scores.map((value, place) => [place, value]).filter(([, value]) => Number.isFinite(value));
  if (known.length < 2) return h("span", { class: "muted" }, NONE);
  const values = known.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const at = ([place, value]) => [(2 + (106 * place) / (scores.length - 1)).toFixed(1), (high > low ? 21 - (18 * (value - low)) / (high - low) : 12).toFixed(1)];
  const [x, y] = at(known.at(-1));
  return svg("svg", { class: "spark", viewBox: "0 0 110 24", role: "img", "aria-label": `${known.length} versions, from ${number(values[0])} to ${number(values.at(-1))}` },
    svg("polyline", { points: known.map((each) => at(each).join(",")).join(" ") }), svg("circle", { cx: x, cy: y, r: 2 }));
}
