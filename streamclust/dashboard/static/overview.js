// The overview: all models, worst first.

import { ApiError, follow, get, noteServer, now, query } from "./api.js";
import { h, replace, setText } from "./dom.js";
import { ago, bytes, count, NONE, plural, printable, rate, short } from "./format.js";
import { ModelsTable, ORDERS } from "./models_table.js";
import { PHASES } from "./phases.js";

const PAGE = 50;
const ORDER_MS = 10_000; // the order of the models is renewed at most this often
const SOON_MS = 1000; // after a model came or went
const RETRY_MS = 3000;
const TYPING_MS = 200;
const AGES_MS = 1000;
const FULL = 0.9; // share of the server's memory limit that is a warning

export function overviewScreen(main, parameters) {
  const view = new Overview(main, readWanted(parameters));
  view.read();
  return view;
}

class Overview {
  constructor(main, wanted) {
    document.title = "Models · streamclust";
    this.wanted = wanted;
    this.page = null; // the newest answer
    this.facts = null; // of the server
    this.timer = null;
    this.readAt = 0;
    this.table = new ModelsTable((sort) => this.change({ sort }));
    this.build(main);
    this.stop = follow("api/updates", { again: () => this.readAfter(SOON_MS), overview: (news) => this.take(news) });
    this.ages = setInterval(() => this.table.showAges(), AGES_MS);
  }

  close() {
    this.stop();
    this.reading?.abort();
    clearTimeout(this.timer);
    clearTimeout(this.typing);
    clearInterval(this.ages);
  }

  build(main) {
    const choose = (name) => ({ target }) => this.change({ [name]: target.value });
    this.filter = h("input", {
      type: "search", id: "filter", placeholder: "part of a name, or clicks-*", autocomplete: "off", spellcheck: "false", value: this.wanted.filter,
      oninput: () => {
        clearTimeout(this.typing);
        this.typing = setTimeout(() => this.change({ filter: this.filter.value.trim() }), TYPING_MS);
      },
    });
    this.group = h("select", { onchange: choose("group") });
    this.sort = h("select", { onchange: choose("sort") }, ORDERS.map(([value, label]) => h("option", { value }, label)));
    this.groupField = h("label", { class: "field", hidden: true }, "Group", this.group);
    this.figures = h("dl", { class: "figures" });
    this.phases = h("div", { class: "chips", role: "group", "aria-label": "Phases", onclick: ({ target }) => this.togglePhase(target.dataset.phase) });
    this.body = h("div", {}, h("p", { class: "empty" }, "Reading the models…"));
    this.matched = h("p", { class: "muted", role: "status" });
    this.pages = h("div", { class: "row", onclick: ({ target }) => this.turn(Number(target.dataset.step)) });
    main.replaceChildren(
      h("div", { class: "head" }, h("h1", {}, "Models")),
      h("section", { class: "panel", "aria-label": "Totals and server", hidden: true }, this.figures),
      h("section", { class: "panel", "aria-label": "All models" },
        h("div", { class: "filters" },
          h("label", { class: "field grow" }, "Filter", this.filter), this.groupField, h("label", { class: "field" }, "Order", this.sort)),
        this.phases, this.body, h("div", { class: "pages" }, this.matched, this.pages)));
  }

  // -- what is read

  async read() {
    clearTimeout(this.timer);
    this.timer = null;
    this.reading?.abort();
    this.reading = new AbortController();
    this.readAt = Date.now();
    try {
      this.page = await get(`api/models${query({ ...this.wanted, limit: PAGE })}`, this.reading.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (!this.page) replace(this.body, h("p", { class: "empty" }, printable(error.message)));
      this.readAfter(RETRY_MS);
      return;
    }
    const { offset, matched, snapshot_ms: snapshot } = this.page;
    if (offset && offset >= matched) return this.change({ offset: 0 });
    if (snapshot === null) this.readAfter(SOON_MS);
    this.show();
  }

  // Read again, this long after the last time.
  readAfter(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.read(), Math.max(0, this.readAt + ms - Date.now()));
  }

  // Take the changes of all models.
  take(news) {
    const { page, wanted } = this;
    noteServer(news);
    if (!page) return;
    const changed = new Map(news.changed.map((row) => [row.name, row]));
    const isOther = news.total !== page.total || news.removed.length > 0;
    page.total = news.total;
    page.models = page.models.map((row) => changed.get(row.name) ?? row);
    if (!wanted.filter && !wanted.group) Object.assign(page, { phases: news.phases, totals: news.totals });
    if (isOther) this.readAfter(SOON_MS);
    else if (this.timer === null && (changed.size || news.many)) this.readAfter(ORDER_MS);
    this.show();
  }

  server(facts) {
    this.facts = facts;
    if (this.page) this.showFigures();
  }

  // -- what is wanted

  change(news) {
    Object.assign(this.wanted, { offset: 0 }, news);
    const { sort, offset } = this.wanted;
    const text = query({ ...this.wanted, sort: sort === "problems" ? "" : sort, offset: offset || "" });
    history.replaceState(null, "", `#/${text}`);
    if (this.page) this.showControls();
    this.read();
  }

  changed(parameters) {
    this.wanted = readWanted(parameters);
    this.filter.value = this.wanted.filter;
    this.read();
  }

  togglePhase(phase) {
    if (!phase) return;
    const chosen = this.wanted.phase.filter((each) => each !== phase);
    this.change({ phase: chosen.length < this.wanted.phase.length ? chosen : [...chosen, phase] });
  }

  turn(step) {
    if (step) this.change({ offset: Math.max(0, this.page.offset + step) });
  }

  // -- what is shown

  show() {
    this.showControls();
    this.showFigures();
    this.showModels();
  }

  showControls() {
    const { page, wanted } = this;
    this.sort.value = wanted.sort;
    const phases = PHASES.filter((phase) => page.phases[phase] || wanted.phase.includes(phase));
    replace(this.phases, phases.map((phase) =>
      h("button", { type: "button", "aria-pressed": String(wanted.phase.includes(phase)), "data-phase": phase, "data-key": phase }, `${phase} ${count(page.phases[phase] ?? 0)}`)));
    const groups = page.groups.filter((each) => each.models > 1 || each.name === wanted.group);
    if (wanted.group && !groups.length) groups.push({ name: wanted.group, label: wanted.group, models: 0, failed: 0 });
    this.groupField.hidden = !groups.length;
    replace(this.group, h("option", { value: "" }, "All groups"), groups.map(({ name, label, models, failed }) =>
      h("option", { value: name }, `${printable(label, 60)}: ${plural(models, "model")}${failed ? `, ${count(failed)} failed` : ""}`)));
    this.group.value = wanted.group;
  }

  showFigures() {
    this.figures.parentElement.hidden = this.page.snapshot_ms === null;
    const figures = [...totalFigures(this.page), ...(this.facts ? serverFigures(this.facts, this.page.total) : [])];
    replace(this.figures, figures.map(([label, value, unit, bad]) =>
      h("div", { "data-figure": label }, h("dt", {}, label), h("dd", {}, value, " ", unit && value !== NONE && h("small", { class: bad ? "bad" : null }, unit)))));
  }

  showModels() {
    const { models, matched, offset } = this.page;
    this.table.show(models, this.wanted.sort);
    if (!models.length) replace(this.body, nothing(this.wanted, this.page));
    else if (!this.table.element.isConnected) this.body.replaceChildren(this.table.element);
    const last = offset + models.length;
    setText(this.matched, models.length < matched ? `${count(offset + 1)} to ${count(last)} of ${plural(matched, "model")}` : matched ? plural(matched, "model") : "");
    replace(this.pages,
      h("button", { type: "button", "data-step": -PAGE, disabled: offset === 0 }, "Previous"),
      h("button", { type: "button", "data-step": PAGE, disabled: last >= matched }, "Next"));
    this.pages.hidden = matched <= PAGE;
  }
}

function readWanted(parameters) {
  return {
    filter: parameters.get("filter") ?? "",
    group: parameters.get("group") ?? "",
    phase: parameters.getAll("phase"),
    sort: parameters.get("sort") ?? "problems",
    offset: Number(parameters.get("offset")) || 0,
  };
}

// Label, value, unit, and whether the unit is a problem.
function totalFigures({ totals, total }) {
  const models = [totals.models < total && `of ${count(total)}`, totals.failed > 0 && `${count(totals.failed)} failed`].filter(Boolean).join(", ");
  return [
    ["Models", count(totals.models), models, totals.failed > 0],
    ["Rate", rate(totals.rate), "points/s"],
    ["Points learned", short(totals.points), ""],
    ["Lag", short(totals.lag), "entries"],
    ["Dead letters", short(totals.dead), "points"],
    ["Lost", short(totals.lost), "entries", totals.lost > 0],
    ["Alerts", short(totals.alerts), ""],
  ];
}

function serverFigures({ workers, memory_bytes: memory, memory_limit_bytes: limit, uptime_s: uptime }, total) {
  const held = (workers ?? []).reduce((sum, worker) => sum + worker.held, 0);
  return [
    ["Workers", workers ? count(workers.length) : NONE, workers?.length ? `with ${plural(held, "model")}` : "none runs", total > 0 && workers && !workers.length],
    ["Server memory", bytes(memory), limit ? `of ${bytes(limit)}` : "no limit", limit > 0 && memory > FULL * limit],
    ["Server up", Number.isFinite(uptime) ? ago(now() - uptime * 1e3, now()).replace(" ago", "") : NONE, ""],
  ];
}

function nothing(wanted, { total, snapshot_ms: snapshot }) {
  if (snapshot === null) return h("p", { class: "empty" }, "The server's models are being read…");
  if (!total) {
    return h("p", { class: "empty" }, h("strong", {}, "No models yet. "),
      "Describe a model in config.yaml, then run ", h("code", {}, "streamclust worker"), ". It appears here by itself.");
  }
  const what = [wanted.filter && `the filter “${printable(wanted.filter)}”`, wanted.phase.length && `the phase ${wanted.phase.join(" or ")}`, wanted.group && "this group"];
  return h("p", { class: "empty" }, `No model matches ${what.filter(Boolean).join(" and ")}. `, h("a", { href: "#/" }, "Show all models"));
}
