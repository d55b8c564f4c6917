// Actions that change a model: refit, rollback, pause, requeue. The server allows them only with a token.

import { ApiError, getAction, modelPath, post, token } from "./api.js";
import { h, replace, setText } from "./dom.js";
import { clock, count, printable } from "./format.js";

const POLL_MS = 1500;

const KINDS = {
  refit: { label: "Refit", text: "Fits the model again to all points that the stream still holds. If the result is better, it replaces the live model." },
  rollback: { label: "Roll back", text: "Publishes an old version as the newest one. The worker continues to learn from it." },
  pause: { label: "Pause", text: "Stops learning: the worker commits its current batch, then reads and publishes nothing until somebody resumes the model. Entries wait in the stream." },
  resume: { label: "Resume", text: "Continues the paused model at the entry at which it was paused." },
  requeue: { label: "Requeue dead letters", text: "Adds the refused entries to their stream again, and removes their dead letters. Entries of which some points were learned stay." },
};

const NEED_VERSION = new Set(["refit", "rollback"]);

export class ActionPanel {
  constructor(name, label) {
    this.name = name;
    this.label = label;
    this.actions = new Map();
    this.buttons = h("div", { class: "row" });
    this.note = h("p", { class: "muted" });
    this.list = h("ul", { class: "cards" });
    this.dialog = h("dialog", { "aria-labelledby": "action-title" });
    this.element = h("section", { class: "panel", "aria-label": "Actions", hidden: true }, h("header", {}, h("h2", {}, "Actions")), this.note, this.buttons, h("div", { role: "status" }, this.list), this.dialog);
    this.buttons.addEventListener("click", ({ target }) => target.dataset.kind && this.ask(target.dataset.kind));
  }

  close() {
    clearTimeout(this.timer);
  }

  // Show which actions the server allows.
  allow({ allowed, kinds }) {
    this.element.hidden = false;
    this.kinds = allowed ? kinds : null;
    if (!allowed) {
      replace(this.note, "This page is read-only. ", h("code", {}, "streamclust dashboard --allow-actions"), " adds refit, rollback, pause and requeue.");
      replace(this.buttons);
      return;
    }
    setText(this.note, "Each action asks for confirmation.");
    this.showButtons();
  }

  // A paused model can be resumed, another one can be paused.
  setPaused(paused) {
    this.paused = Boolean(paused);
    this.showButtons();
  }

  showButtons() {
    const hidden = this.paused ? "pause" : "resume";
    const kinds = (this.kinds ?? []).filter((kind) => KINDS[kind] && kind !== hidden);
    replace(this.buttons, kinds.map((kind) => {
      const tooEarly = NEED_VERSION.has(kind) && !this.newest;
      return h("button", { type: "button", "data-kind": kind, "data-key": kind, disabled: tooEarly, title: tooEarly ? "The model has no version yet" : null }, `${KINDS[kind].label}…`);
    }));
  }

  // Take the newest version; null if there is none.
  setVersions(newest) {
    this.newest = newest;
    this.showButtons();
  }

  // Ask for confirmation; again with the reason, after a failure.
  ask(kind, failure = "", { version: wanted = "", reason: part = "" } = {}) {
    const { label, text } = KINDS[kind];
    const version = h("input", { type: "text", inputmode: "numeric", pattern: "[0-9]+", required: true, autocomplete: "off", value: wanted });
    const reason = h("input", { type: "text", autocomplete: "off", placeholder: "all", value: part });
    const why = h("input", { type: "text", autocomplete: "off", maxlength: 200, value: part });
    const key = h("input", { type: "password", required: true, autocomplete: "off", spellcheck: "false" });
    const fields = [
      kind === "rollback" && h("label", { class: "field" }, `Version (the newest is ${count(this.newest)})`, version),
      kind === "requeue" && h("label", { class: "field" }, "Only letters whose reason has this text", reason),
      kind === "pause" && h("label", { class: "field" }, "Reason, for others (optional)", why),
      !token.get() && h("label", { class: "field" }, "Token (the command that started the dashboard printed it)", key),
    ];
    const send = () => {
      if (!token.get()) token.set(key.value.trim());
      const text = kind === "requeue" ? reason.value : kind === "pause" ? why.value : "";
      const body = kind === "rollback" ? { version: Number(version.value) } : text ? { reason: text } : {};
      this.run(kind, body);
    };
    this.dialog.replaceChildren(h("form", { method: "dialog", onsubmit: (event) => event.submitter?.value === "yes" && send() },
      h("h2", { id: "action-title" }, `${label}: ${printable(this.label, 80)}`), h("p", {}, text),
      failure && h("p", { class: "notice bad", role: "alert" }, failure), fields,
      h("div", { class: "row" }, h("button", { class: "primary", value: "yes" }, label), h("button", { value: "no", formnovalidate: true }, "Cancel"))));
    this.dialog.showModal();
  }

  async run(kind, body) {
    try {
      this.take(await post(modelPath(this.name, kind), body));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 401) token.forget();
      this.ask(kind, error.status === 401 ? "The token is wrong." : printable(error.message), body);
    }
  }

  // Show the state of an action, which comes from an answer or from the stream of updates.
  take(action) {
    this.actions.set(action.id, action);
    replace(this.list, [...this.actions.values()].slice(-5).reverse().map((each) => h("li", { "data-key": each.id },
      h("span", { class: each.state === "failed" ? "bad" : null }, `${KINDS[each.kind]?.label ?? each.kind}: ${each.state}. ${printable(each.message ?? "", 400)}`),
      h("span", { class: "muted small" }, clock(each.ended_ms ?? each.started_ms)))));
    clearTimeout(this.timer);
    if (action.state === "running") this.timer = setTimeout(() => this.poll(action.id), POLL_MS);
  }

  async poll(id) {
    try {
      this.take(await getAction(id));
    } catch {
      this.timer = setTimeout(() => this.poll(id), 2 * POLL_MS);
    }
  }
}
