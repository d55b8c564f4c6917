// The phases of a model, problems first; each has a shape of its own beside its colour.

import { h, svg } from "./dom.js";

export const PHASES = ["failed", "stalled", "damaged", "stopped", "paused", "warming", "learning"];

const SHAPES = {
  failed: () => svg("path", { d: "M2 2l8 8M10 2l-8 8", stroke: "currentColor", "stroke-width": 2.2 }),
  stalled: () => svg("path", { d: "M3 2v8M9 2v8", stroke: "currentColor", "stroke-width": 2.6 }),
  damaged: () => svg("path", { d: "M6 1l5.5 10h-11z", fill: "currentColor" }),
  stopped: () => svg("rect", { x: 2, y: 2, width: 8, height: 8, fill: "none", stroke: "currentColor", "stroke-width": 2 }),
  paused: () => svg("path", { d: "M2 2h3v8H2zM7 2h3v8H7z", fill: "currentColor" }),
  warming: () => [svg("circle", { cx: 6, cy: 6, r: 4.5, fill: "none", stroke: "currentColor", "stroke-width": 1.8 }), svg("path", { d: "M6 1.5a4.5 4.5 0 0 1 0 9z", fill: "currentColor" })],
  learning: () => svg("circle", { cx: 6, cy: 6, r: 4.5, fill: "currentColor" }),
};

export function phaseMark(phase) {
  const shape = (SHAPES[phase] ?? SHAPES.stopped)();
  return h("span", { class: `phase phase-${PHASES.includes(phase) ? phase : "stopped"}` },
    svg("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, shape), phase);
}
