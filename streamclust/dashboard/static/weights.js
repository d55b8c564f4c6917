// The components: how much of the stream each one has, and one component in detail.

import { luminance } from "./colours.js";
import { colour, h, replace, setText } from "./dom.js";
import { count, digitsFor, NONE, number, percent, plural, printable } from "./format.js";

const ROWS = 24;
const MOST_FEATURES = 24;
const [MEANS_ROWS, MEANS_COLUMNS] = [12, 5];

export class WeightsPanel {
  constructor(onSelect, colourOf) {
    this.onSelect = onSelect;
    this.colourOf = colourOf;
    this.rows = ROWS;
    this.components = [];
    this.selected = null;
    this.summary = h("p", { class: "muted small" });
    this.rank = h("canvas", { class: "rank", role: "img" });
    this.swatches = h("div", { class: "swatches", role: "group", "aria-label": "Palette, dark to light; the area of a colour is its share of the points" });
    this.body = h("tbody");
    this.more = h("button", { type: "button", onclick: () => this.showMore() });
    this.detail = h("div", { class: "detail", id: "component", hidden: true });
    this.table = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Components by share" },
      h("table", { class: "bars" }, h("thead", {}, h("tr", {},
        h("th", { scope: "col" }, "Component"), h("th", { scope: "col", class: "wide" }, "Share"), h("th", { scope: "col", class: "number" }, "of points"), h("th", { scope: "col", class: "number" }, "Mass"))), this.body));
    this.element = h("section", { class: "panel", "aria-label": "Components" },
      h("header", {}, h("h2", {}, "Components")), this.summary, this.rank, this.swatches, this.table, this.more, this.detail);
    this.body.addEventListener("click", ({ target }) => this.pick(target.closest("tr")));
    this.swatches.addEventListener("click", ({ target }) => this.pick(target.closest("button")));
    this.observer = new ResizeObserver(() => this.paintRank());
    this.observer.observe(this.rank);
  }

  close() {
    this.observer.disconnect();
  }

  pick(element) {
    if (!element) return;
    const id = Number(element.dataset.id);
    this.onSelect(id === this.selected ? null : id);
  }

  showMore() {
    this.rows += 4 * ROWS;
    this.show();
  }

  // Show the components of a version. `means` are null for a large model.
  set(components, { means, swatches, features, codebook }) {
    Object.assign(this, { components, means, hex: swatches, features, codebook });
    this.show();
  }

  select(id) {
    this.selected = id;
    this.show();
  }

  repaint() {
    this.show();
  }

  show() {
    const sorted = [...this.components].sort((one, other) => other.weight - one.weight || one.id - other.id);
    const top = sorted[0]?.weight || 1;
    const shown = sorted.slice(0, this.rows);
    const total = this.components.reduce((sum, each) => sum + each.mass, 0);
    const used = this.codebook && this.codebook.n_codes - this.codebook.dead;
    const perplexity = this.codebook?.perplexity;
    setText(this.summary, [
      plural(sorted.length, "component"), `mass ${number(total)} points`,
      Number.isFinite(used) && used < sorted.length && `${count(used)} in use`,
      Number.isFinite(perplexity) && `perplexity ${number(perplexity, 3)} of ${count(sorted.length)}`,
    ].filter(Boolean).join(" · "));
    replace(this.body, shown.map((each) => this.rowOf(each, top)));
    this.more.hidden = sorted.length <= this.rows;
    setText(this.more, `Show more of ${plural(sorted.length, "component")}`);
    this.rank.hidden = sorted.length <= ROWS;
    this.sorted = sorted;
    this.paintRank();
    this.showSwatches(top);
    this.showDetail();
  }

  rowOf({ id, weight, mass }, top) {
    const chosen = id === this.selected;
    return h("tr", { "data-key": id, "data-id": id, "data-selected": chosen },
      h("th", { scope: "row" }, h("button", { type: "button", class: "swatch-button", "aria-expanded": String(chosen), "aria-controls": "component" },
        h("span", { class: "dot", style: { background: this.colourOf(id) } }), String(id))),
      h("td", { class: "wide" }, h("span", { class: "bar", style: { width: `${(100 * weight) / top}%`, background: this.colourOf(id) } })),
      h("td", { class: "number" }, percent(weight)),
      h("td", { class: "number" }, number(mass)));
  }

  // Draw the shares in order, for more components than rows.
  paintRank() {
    const { clientWidth: width, clientHeight: height } = this.rank;
    if (!width || !this.sorted?.length || this.rank.hidden) return;
    const scale = devicePixelRatio || 1;
    this.rank.width = width * scale;
    this.rank.height = height * scale;
    const context = this.rank.getContext("2d");
    context.scale(scale, scale);
    const step = width / this.sorted.length;
    const top = this.sorted[0].weight || 1;
    this.sorted.forEach(({ id, weight }, place) => {
      const high = Math.max(1, (weight / top) * (height - 2));
      context.fillStyle = id === this.selected ? colour("--ink") : this.hex ? this.colourOf(id) : colour("--accent");
      context.fillRect(place * step, height - high, Math.max(0.75, step - (step > 4 ? 1 : 0)), high);
    });
    this.rank.setAttribute("aria-label", `Shares of ${plural(this.sorted.length, "component")}, largest first: from ${percent(this.sorted[0].weight)} to ${percent(this.sorted.at(-1).weight)}`);
  }

  showSwatches(top) {
    this.swatches.hidden = !this.hex;
    if (!this.hex) return;
    const dark = (each) => luminance(this.hex[each.place]);
    const order = [...this.components].sort((one, other) => dark(one) - dark(other)).slice(0, 256);
    replace(this.swatches, order.map(({ id, place, weight }) => {
      const side = `${Math.max(4, 32 * Math.sqrt(weight / top)).toFixed(1)}px`;
      const text = `Component ${id}: ${this.hex[place]}, ${percent(weight)} of the points`;
      return h("button", { type: "button", "data-key": id, "data-id": id, "aria-pressed": String(id === this.selected), "aria-label": text, title: text },
        h("i", { style: { width: side, height: side, background: this.hex[place] } }));
    }));
  }

  // Show the means of all components of a small model while no component is chosen.
  showMeans() {
    this.detail.hidden = !this.means || this.hex || this.components.length > MEANS_ROWS || this.features.length > MEANS_COLUMNS;
    if (!this.detail.hidden) replace(this.detail, meansTable(this.sorted, this.means, this.features));
  }

  showDetail() {
    const chosen = this.components.find((each) => each.id === this.selected);
    if (!chosen) return this.showMeans();
    this.detail.hidden = false;
    const head = h("h3", {}, `Component ${chosen.id}: ${percent(chosen.weight)} of the points, mass ${number(chosen.mass)}`);
    if (!this.means) {
      replace(this.detail, head, h("p", { class: "muted small" }, `The means of ${plural(this.features.length, "feature")} aren't shown for a model of this size; `, h("code", {}, "streamclust models show"), " prints them."));
      return;
    }
    replace(this.detail, head, featureTable(this.means[chosen.place], this.means, this.features));
  }
}

// Return the means of the components of a small model.
function meansTable(sorted, means, features) {
  const digits = features.map((_, place) => digitsFor(means.map((each) => each[place])));
  return [
    h("h3", {}, "Means"),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Means of the components" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Component"), features.map((feature) => h("th", { scope: "col", class: "number" }, printable(feature, 24))))),
      h("tbody", {}, sorted.map(({ id, place }) => h("tr", { "data-key": id }, h("th", { scope: "row" }, String(id)), means[place].map((value, column) => h("td", { class: "number" }, number(value, digits[column])))))))),
  ];
}

// Show the features in which a component differs most from the others, in units of their spread.
function featureTable(mean, means, features) {
  const rows = features.map((feature, place) => {
    const column = means.map((each) => each[place]);
    const middle = column.reduce((sum, value) => sum + value, 0) / column.length;
    const spread = Math.sqrt(column.reduce((sum, value) => sum + (value - middle) ** 2, 0) / column.length);
    return { feature, value: number(mean[place], digitsFor(column)), apart: spread > 0 ? (mean[place] - middle) / spread : 0 };
  });
  const shown = rows.length > MOST_FEATURES ? rows.sort((one, other) => Math.abs(other.apart) - Math.abs(one.apart)).slice(0, MOST_FEATURES) : rows;
  return [
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Mean of the component" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Feature"), h("th", { scope: "col", class: "number" }, "Mean"), h("th", { scope: "col", class: "number" }, "From the others"))),
      h("tbody", {}, shown.map(({ feature, value, apart }) => h("tr", {}, h("th", { scope: "row" }, printable(feature, 200)), h("td", { class: "number" }, value),
        h("td", { class: "number" }, means.length > 1 ? `${apart < 0 ? "−" : "+"}${number(Math.abs(apart), 2)} sd` : NONE)))))),
    rows.length > shown.length && h("p", { class: "muted small" }, `The ${count(shown.length)} of ${plural(rows.length, "feature")} that differ most from the other components; sd: standard deviations of the component means.`),
  ];
}
