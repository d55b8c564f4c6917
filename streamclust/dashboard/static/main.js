// The frame of the page: which screen is shown, the theme, and the state of the connection.

import { get, now, onConnection, quietly, token } from "./api.js";
import { forgetColours, h, replace, setText } from "./dom.js";
import { bytes, moment, plural, printable } from "./format.js";
import { modelScreen } from "./model.js";
import { overviewScreen } from "./overview.js";

const THEMES = ["auto", "light", "dark"];
const SERVER_MS = 5000;

const main = document.getElementById("main");
let screen = null;
let shown = "";

function route() {
  const [path, search = ""] = location.hash.slice(1).split("?");
  const parameters = new URLSearchParams(search);
  const [, kind, encoded] = path.split("/");
  if (parameters.has("token") || path.startsWith("token=")) return takeToken(path, parameters);
  const key = kind === "m" && encoded ? `m/${encoded}` : "";
  if (screen && key === shown) return screen.changed?.(parameters);
  if (screen) main.focus({ preventScroll: true }); // the link that was followed is gone
  screen?.close();
  shown = key;
  screen = key ? modelScreen(main, decodeName(encoded), parameters) : overviewScreen(main, parameters);
  scrollTo(0, 0);
}

// The command that starts the dashboard prints a URL with the token. It doesn't stay in the URL.
function takeToken(path, parameters) {
  token.set(path.startsWith("token=") ? decodeURIComponent(path.slice(6)) : parameters.get("token"));
  history.replaceState(null, "", "#/");
  route();
}

function decodeName(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function readTheme() {
  try {
    return localStorage.getItem("streamclust-theme") ?? "auto";
  } catch {
    return "auto";
  }
}

function setTheme(theme) {
  try {
    localStorage.setItem("streamclust-theme", theme);
  } catch {
    // Without storage, the theme lasts as long as the page.
  }
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText(document.getElementById("theme"), `Theme: ${theme}`);
  repaint();
}

function repaint() {
  forgetColours();
  screen?.repaint?.();
}

function showConnection({ up, seen, server }) {
  const line = document.getElementById("connection");
  const away = up === false;
  const trouble = server && server.state !== "ok";
  line.classList.toggle("bad", away || Boolean(trouble));
  if (away) {
    const last = seen === null ? "No answer yet" : `Last answer ${moment(seen, Date.now())}`;
    setText(line, `The dashboard doesn't answer. ${last}; retrying.`);
  } else if (trouble) {
    const since = server.state === "starting" ? "" : ` since ${moment(server.since_ms, now())}`;
    setText(line, `${printable(server.error ?? "The first figures are being read")}${since}`);
  } else {
    setText(line, server ? `Connected to ${printable(server.label)}` : "");
  }
  document.body.classList.toggle("stale", away || Boolean(trouble));
}

async function pollServer() {
  await quietly(readServer());
  setTimeout(pollServer, SERVER_MS);
}

async function readServer() {
  const facts = await get("api/server");
  screen?.server?.(facts);
  showFoot(facts);
}

function showFoot(facts) {
  const parts = [
    `streamclust ${facts.release}`,
    `namespace ${printable(facts.namespace)}`,
    facts.product && printable(facts.product),
    Number.isFinite(facts.memory_bytes) && `server memory ${bytes(facts.memory_bytes)}`,
    facts.visitors > 0 && plural(facts.visitors, "visitor"),
  ];
  const api = h("a", { href: "openapi.json" }, "API description");
  replace(document.getElementById("foot"), `${parts.filter(Boolean).join(" · ")} · `, api);
}

document.getElementById("skip").addEventListener("click", () => main.focus());
document.getElementById("theme").addEventListener("click", () => {
  setTheme(THEMES[(THEMES.indexOf(readTheme()) + 1) % THEMES.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
addEventListener("hashchange", route);
setTheme(THEMES.includes(readTheme()) ? readTheme() : "auto");
onConnection(showConnection);
route();
pollServer();

