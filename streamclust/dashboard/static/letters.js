// Points that need attention: dead letters with their reasons, alerts with their attribution.

import { h, replace, setText } from "./dom.js";
import { clock, count, NONE, number, percent, plural, printable } from "./format.js";

const MOST = 50;
const MOST_PARTS = 5;

export class DeadPanel {
  constructor() {
    this.summary = h("p", { class: "muted" });
    this.reasons = h("tbody");
    this.letters = h("ul", { class: "cards" });
    this.tables = h("div", { class: "stack" },
      h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Reason, in the newest letters"), h("th", { scope: "col", class: "number" }, "Points"))), this.reasons),
      h("h3", {}, "Newest"),
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Newest dead letters" }, this.letters));
    this.element = h("section", { class: "panel", "aria-label": "Dead letters" }, h("header", {}, h("h2", {}, "Dead letters")), this.summary, this.tables);
  }

  set(dead) {
    this.dead = { ...dead, letters: [...dead.letters] };
    this.show();
  }

  // Take letters that have just been written, newest first.
  add({ count: total, letters }) {
    const known = new Set(this.dead.letters.map((letter) => letter.id));
    const fresh = letters.filter((letter) => !known.has(letter.id));
    this.dead.count = total;
    this.dead.letters = [...fresh, ...this.dead.letters].slice(0, MOST);
    this.show();
  }

  show() {
    const { count: total, letters, reasons } = this.dead;
    this.tables.hidden = !letters.length && !reasons.length;
    setText(this.summary, total ? `${plural(total, "point was", "points were")} refused.` : "No point was refused.");
    replace(this.reasons, reasons.map((each) => h("tr", {}, h("th", { scope: "row", class: "long" }, printable(each.reason, 300)), h("td", { class: "number" }, count(each.count)))));
    replace(this.letters, letters.map((letter) => h("li", { "data-key": letter.id },
      h("span", {}, printable(letter.reason, 300)),
      h("span", { class: "muted small" }, `${clock(letter.time_ms)} · entry ${printable(letter.entry)}${letter.index >= 0 ? `, point ${count(letter.index)}` : ""} of ${printable(letter.stream, 100)}`),
      letter.data && h("code", { class: "small" }, printable(letter.data, 240)))));
  }
}

export class AlertPanel {
  constructor(colourOf) {
    this.colourOf = colourOf;
    this.summary = h("p", { class: "muted" });
    this.list = h("ul", { class: "cards" });
    this.scroll = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Newest alerts" }, this.list);
    this.element = h("section", { class: "panel", "aria-label": "Alerts" }, h("header", {}, h("h2", {}, "Alerts")), this.summary, this.scroll);
  }

  set(alerts) {
    this.alerts = alerts && { ...alerts, newest: [...alerts.newest] };
    this.show();
  }

  // Take an alert that has just been written.
  add(alert) {
    this.alerts ??= { count: 0, newest: [] };
    if (this.alerts.newest.some((each) => each.alert === alert.alert)) return;
    this.alerts.count += 1;
    this.alerts.newest = [alert, ...this.alerts.newest].slice(0, MOST);
    this.show();
  }

  show() {
    this.scroll.hidden = !this.alerts?.newest.length;
    if (!this.alerts) {
      replace(this.summary, "This model reports no alerts. The setting ", h("code", {}, "anomaly"), " turns them on.");
      return;
    }
    replace(this.summary, this.alerts.count ? `${plural(this.alerts.count, "point")} had an unusual score.` : "No point had an unusual score yet.");
    replace(this.list, this.alerts.newest.map((alert) => this.card(alert)));
  }

  card({ alert, stream, id, event_time_ms: time, code, score, quantile, top, labels }) {
    const parts = (top ?? []).filter((part) => Number.isFinite(part.share)).slice(0, MOST_PARTS);
    const most = Math.max(...parts.map((part) => Math.abs(part.share)), Number.MIN_VALUE);
    const named = Object.entries(labels ?? {}).map(([name, value]) => `${printable(name, 80)} ${printable(value, 80)}`);
    return h("li", { "data-key": alert },
      h("span", {}, h("span", { class: "dot", style: { background: this.colourOf(code) } }), ` Component ${count(code)}, score ${number(score)}`,
        Number.isFinite(quantile) && `, above ${quantile >= 0.99995 ? "99.99 %" : quantilePercent(quantile)} of the scores`),
      h("span", { class: "muted small" }, [clock(time), `entry ${printable(id ?? NONE)} of ${printable(stream ?? NONE, 100)}`, ...named].join(" · ")),
      parts.length > 0 && h("table", { class: "parts" },
        h("thead", {}, h("tr", {}, ["Feature", "Share", "", "Value", "Expected"].map((text, place) =>
          text ? h("th", { scope: "col", class: place > 2 ? "number" : null, title: place === 1 ? "Share of the score" : null, colspan: place === 1 ? 2 : null }, text) : null))),
        h("tbody", {}, parts.map(({ feature, share, value, expected }) => h("tr", {},
          h("th", { scope: "row", class: "long" }, printable(feature, 80)),
          h("td", { class: "wide" }, h("span", { class: `bar${share < 0 ? " negative" : ""}`, style: { width: `${(100 * Math.abs(share)) / most}%` } })),
          h("td", { class: "number" }, `${number(share * 100, 2)} %`), h("td", { class: "number" }, number(value)), h("td", { class: "number" }, number(expected)))))));
  }
}

const quantilePercent = (share) => (share > 0.99 ? `${number(share * 100, 4)} %` : percent(share));
