// Requests to the server of this page, and the state of the connection to it.

const SILENCE_MS = 30_000;
const TOKEN = "streamclust-token";

const listeners = new Set();
const state = { up: null, seen: null, server: null, offset: 0 };

// A request that failed; `status` is 0 if there was no answer.
export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// The time by the clock of the server: ages are right on a machine whose clock is wrong.
export const now = () => Date.now() + state.offset;

export function onConnection(listener) {
  listeners.add(listener);
  listener(state);
}

function notify() {
  for (const listener of listeners) listener(state);
}

function answered(up) {
  if (up) state.seen = Date.now();
  if (state.up === up) return;
  state.up = up;
  notify();
}

// Take the state of the Redis server, and the clock, from an answer.
export function noteServer({ server, time_ms: timeMs }) {
  if (Number.isFinite(timeMs)) state.offset = timeMs - Date.now();
  if (!server) return;
  const news = state.server?.state !== server.state || state.server?.error !== server.error;
  state.server = server;
  if (news) notify();
}

export const modelPath = (name, ...more) => ["api/models", encodeURIComponent(name), ...more].join("/");

export function query(values) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") found.append(name, each);
    }
  }
  const text = found.toString();
  return text && `?${text}`;
}

async function request(url, options) {
  let response;
  let text;
  try {
    response = await fetch(url, { cache: "no-store", ...options });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    answered(false);
    throw new ApiError("The dashboard doesn't answer.", 0, "no_answer");
  }
  answered(true);
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy answers in other formats.
  }
  if (response.ok && body) {
    noteServer(body);
    return body;
  }
  const { message = `The server answered with status ${response.status}.`, code = "" } = body?.error ?? {};
  throw new ApiError(message, response.status, code);
}

// Ignore that a request failed: the header shows when the server is away.
export async function quietly(work) {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

export const get = (url, signal) => request(url, { signal });

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

const authorization = () => (token.get() ? { Authorization: `Bearer ${token.get()}` } : {});

export function post(url, body) {
  const headers = { "Content-Type": "application/json", ...authorization() };
  return request(url, { method: "POST", headers, body: JSON.stringify(body) });
}

export const getAction = (id) => request(`api/actions/${encodeURIComponent(id)}`, { headers: authorization() });

// Follow server-sent events. `handlers` has a function of the parsed data for each event, and
// `again`, which is called when the connection is back after a loss. Return a function that ends it.
//
// EventSource connects again by itself, but not after an error status, nor after a silent loss.
export function follow(url, handlers) {
  let source, timer, heard;
  let lost = false;
  const open = () => {
    clearTimeout(timer);
    source?.close();
    source = new EventSource(url);
    heard = Date.now();
    source.onopen = () => {
      answered(true);
      if (lost) handlers.again();
      lost = false;
    };
    source.onerror = () => {
      lost = true;
      answered(false);
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, 3000);
    };
    for (const name of [...Object.keys(handlers), "beat"]) {
      source.addEventListener(name, (event) => {
        heard = Date.now();
        answered(true);
        handlers[name]?.(JSON.parse(event.data));
      });
    }
  };
  open();
  const watch = setInterval(() => {
    if (Date.now() - heard < SILENCE_MS) return;
    lost = true;
    open();
  }, 5000);
  return () => {
    clearInterval(watch);
    clearTimeout(timer);
    source.close();
  };
}
