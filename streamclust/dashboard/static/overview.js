// The overview: all models, worst first.

import { ApiError, follow, get, noteServer, now, query } from "./api.js";
import { h, replace, setText, svg } from "./dom.js";
import { ago, bytes, count, NONE, number, plural, printable, rate, short } from "./format.js";
import { phaseMark, PHASES } from "./phases.js";

const PAGE = 50;
const READ_MS = 10_000; // the order of the models is renewed at most this often
const AGES_MS = 1000;

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

export function overviewScreen(main, parameters) {
  document.title = "Models · streamclust";
  const wanted = readWanted(parameters);
  const parts = build(main, wanted, change);
  let page = null;
  let facts = null;
  let reading = null;
  let readAt = 0;
  let timer = null;

  async function read() {
    clearTimeout(timer);
    timer = null;
    reading?.abort();
    reading = new AbortController();
    readAt = Date.now();
    try {
      page = await get(`api/models${query({ ...wanted, limit: PAGE })}`, reading.signal);
      if (page.offset && page.offset >= page.matched) return change({ offset: 0 });
      show();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (!page) replace(parts.body, h("p", { class: "empty" }, printable(error.message)));
      timer = setTimeout(read, 3000);
    }
  }

  // Read again, but not more often than the limit.
  function readSoon() {
    timer ??= setTimeout(read, Math.max(0, readAt + READ_MS - Date.now()));
  }

  function change(news) {
    Object.assign(wanted, { offset: 0 }, news);
    const { filter, group, phase, sort, offset } = wanted;
    const text = query({ filter, group, phase, sort: sort === "problems" ? "" : sort, offset: offset || "" });
    history.replaceState(null, "", `#/${text}`);
    showControls(parts, wanted, page, change);
    read();
  }

  function show() {
    showControls(parts, wanted, page, change);
    showFigures(parts.figures, page, facts);
    showModels(parts, wanted, page, change);
  }

  const stop = follow("api/updates", {
    again: readSoon,
    overview(news) {
      noteServer(news);
      const changed = new Map(news.changed.map((row) => [row.name, row]));
      if (!page) return;
      page.models = page.models.map((row) => changed.get(row.name) ?? row);
      if (!wanted.filter && !wanted.group) Object.assign(page, { phases: news.phases, totals: news.totals, total: news.total });
      if (changed.size || news.removed.length || news.many) readSoon();
      show();
    },
  });
  const ages = setInterval(() => page && showAges(parts.body), AGES_MS);
  read();

  return {
    close() {
      stop();
      reading?.abort();
      clearTimeout(timer);
      clearInterval(ages);
    },
    changed(next) {
      Object.assign(wanted, readWanted(next));
      parts.filter.value = wanted.filter;
      read();
    },
    server(news) {
      facts = news;
      if (page) showFigures(parts.figures, page, facts);
    },
  };
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

function build(main, wanted, change) {
  let waiting;
  const filter = h("input", {
    type: "search", id: "filter", placeholder: "part of a name, or clicks-*", autocomplete: "off", spellcheck: "false",
    oninput: () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => change({ filter: filter.value.trim() }), 200);
    },
  });
  filter.value = wanted.filter;
  const group = h("select", { onchange: () => change({ group: group.value }) });
  const sort = h("select", { onchange: () => change({ sort: sort.value }) },
    ...[["problems", "Problems first"], ...COLUMNS.filter((column) => column.sort && column.sort !== "problems").map((column) => [column.sort, column.label])]
      .map(([value, label]) => h("option", { value }, label)));
  const parts = { filter, group, sort };
  parts.figures = h("dl", { class: "figures" });
  parts.phases = h("div", { class: "chips", role: "group", "aria-label": "Phases" });
  parts.groupField = h("label", { class: "field", hidden: true }, "Group", group);
  parts.body = h("div", {}, h("p", { class: "empty" }, "Reading the models…"));
  parts.matched = h("p", { class: "muted", role: "status" });
  parts.pages = h("div", { class: "row" });
  main.replaceChildren(
    h("div", { class: "head" }, h("h1", {}, "Models")),
    h("section", { class: "panel", "aria-label": "Totals and server", hidden: true }, parts.figures),
    h("section", { class: "panel", "aria-label": "All models" },
      h("div", { class: "filters" },
        h("label", { class: "field grow" }, "Filter", filter), parts.groupField, h("label", { class: "field" }, "Order", sort)),
      parts.phases,
      parts.body,
      h("div", { class: "pages" }, parts.matched, parts.pages)));
  return parts;
}

function showControls(parts, wanted, page, change) {
  parts.sort.value = wanted.sort;
  if (!page) return;
  const known = PHASES.filter((phase) => page.phases[phase] || wanted.phase.includes(phase));
  replace(parts.phases, known.map((phase) => h("button", {
    type: "button", "aria-pressed": String(wanted.phase.includes(phase)), "data-phase": phase,
  }, `${phase} ${count(page.phases[phase] ?? 0)}`)));
  parts.phases.onclick = ({ target }) => {
    const phase = target.dataset.phase;
    if (!phase) return;
    const chosen = wanted.phase.includes(phase) ? wanted.phase.filter((each) => each !== phase) : [...wanted.phase, phase];
    change({ phase: chosen });
  };
  const groups = page.groups.filter((each) => each.models > 1 || each.name === wanted.group);
  if (wanted.group && !groups.length) groups.push({ name: wanted.group, label: wanted.group, models: 0, failed: 0 });
  parts.groupField.hidden = !groups.length;
  replace(parts.group, h("option", { value: "" }, "All groups"), groups.map(({ name, label, models, failed }) =>
    h("option", { value: name }, `${printable(label, 60)}: ${plural(models, "model")}${failed ? `, ${count(failed)} failed` : ""}`)));
  parts.group.value = wanted.group;
}

function showFigures(list, { totals, total, snapshot_ms: snapshot }, facts) {
  list.parentElement.hidden = snapshot === null;
  const figures = [
    ["Models", count(totals.models), totals.models < total ? `of ${count(total)}` : totals.failed ? `${count(totals.failed)} failed` : "", totals.failed > 0],
    ["Rate", rate(totals.rate), "points/s"],
    ["Points learned", short(totals.points), ""],
    ["Lag", short(totals.lag), "entries"],
    ["Dead letters", short(totals.dead), "points"],
    ["Lost", short(totals.lost), "entries", totals.lost > 0],
    ["Alerts", short(totals.alerts), ""],
  ];
  if (facts) {
    const workers = facts.workers ?? [];
    const held = workers.reduce((sum, worker) => sum + worker.held, 0);
    figures.push(
      ["Workers", facts.workers ? count(workers.length) : NONE, workers.length ? `with ${plural(held, "model")}` : "none runs", facts.workers && !workers.length],
      ["Server memory", bytes(facts.memory_bytes), facts.memory_limit_bytes ? `of ${bytes(facts.memory_limit_bytes)}` : "no limit",
        facts.memory_limit_bytes > 0 && facts.memory_bytes > 0.9 * facts.memory_limit_bytes],
      ["Server up", Number.isFinite(facts.uptime_s) ? ago(now() - facts.uptime_s * 1e3, now()).replace(" ago", "") : NONE, facts.product ? printable(facts.product) : ""],
    );
  }
  replace(list, figures.map(([label, value, unit, bad]) =>
    h("div", { "data-figure": label }, h("dt", {}, label), h("dd", {}, value, " ", unit && value !== NONE && h("small", { class: bad ? "bad" : null }, unit)))));
}

function showModels(parts, wanted, page, change) {
  const { models, matched, offset } = page;
  if (!models.length) {
    parts.table = null;
    parts.body.replaceChildren(nothing(wanted, page));
  } else {
    parts.table ??= modelTable(parts.body, change);
    showSort(parts.table, wanted);
    replace(parts.table.rows, models.map((row) => h("tr", { role: "row", "data-key": row.name }, cells(row))));
    showAges(parts.body);
  }
  setText(parts.matched, models.length ? `${count(offset + 1)} to ${count(offset + models.length)} of ${plural(matched, "model")}` : "");
  replace(parts.pages,
    h("button", { type: "button", "data-step": -PAGE, disabled: offset === 0 }, "Previous"),
    h("button", { type: "button", "data-step": PAGE, disabled: offset + models.length >= matched }, "Next"));
  parts.pages.hidden = matched <= PAGE;
  parts.pages.onclick = ({ target }) => target.dataset.step && change({ offset: Math.max(0, offset + Number(target.dataset.step)) });
}

function nothing(wanted, { total, snapshot_ms: snapshot }) {
  if (snapshot === null) return h("p", { class: "empty" }, "The server's models are being read…");
  if (!total) {
    return h("p", { class: "empty" }, h("strong", {}, "No models yet. "),
      "Describe a model in config.yaml, then run ", h("code", {}, "streamclust worker"), ". It appears here by itself.");
  }
  const what = [wanted.filter && `the filter “${printable(wanted.filter)}”`, wanted.phase.length && `the phase ${wanted.phase.join(" or ")}`, wanted.group && "this group"];
  return h("p", { class: "empty" }, `No model matches ${what.filter(Boolean).join(" and ")}.`);
}

function modelTable(body, change) {
  const heads = COLUMNS.map(({ label, unit, sort, number: isNumber }) => {
    const text = [label, unit && h("small", {}, ` ${unit}`)];
    return h("th", { scope: "col", role: "columnheader", class: isNumber ? "number" : null, "data-sort": sort },
      sort ? h("button", { type: "button", onclick: () => change({ sort }) }, text) : text);
  });
  const rows = h("tbody", { role: "rowgroup" });
  body.replaceChildren(h("table", { class: "models", role: "table" },
    h("caption", { class: "hidden-text" }, "Models with their phase, figures and score"),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), rows));
  return { heads, rows };
}

function showSort({ heads }, { sort }) {
  for (const head of heads) {
    if (head.dataset.sort !== sort) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", ["name", "problems", "age"].includes(sort) ? "ascending" : "descending");
  }
}

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
    cell("Age", ago(row.published_ms, now()).replace(" ago", ""), { attributes: { "data-ms": row.published_ms ?? "" } }),
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
  const kind = row.kind ? `${row.kind === "kmeans" ? "K-means" : "Gaussian mixture"} ${count(row.n_components)} × ${count(row.n_features)}` : "no version yet";
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

function showAges(body) {
  for (const cell of body.querySelectorAll("td[data-ms]")) {
    setText(cell, cell.dataset.ms ? ago(Number(cell.dataset.ms), now()).replace(" ago", "") : NONE);
  }
}
