// Colours of components and of palettes.

import { colour } from "./dom.js";

const COLOURS = 8;

// The colours of components. The 8 colours differ for people with each kind of colour blindness; a
// number beside the component always repeats what a colour says. Up to 8 components have different
// colours, and a component keeps its colour.
export class Colours {
  constructor() {
    this.slots = new Map();
  }

  assign(ids) {
    const alive = new Set(ids);
    for (const id of this.slots.keys()) if (!alive.has(id)) this.slots.delete(id);
    const used = new Set(this.slots.values());
    for (const id of ids) {
      if (this.slots.has(id)) continue;
      let slot = id % COLOURS;
      for (let tries = 0; tries < COLOURS && used.has(slot); tries++) slot = (slot + 1) % COLOURS;
      this.slots.set(id, slot);
      used.add(slot);
    }
  }

  of(id) {
    return colour(`--c${this.slots.get(id) ?? Math.abs(id) % COLOURS}`);
  }
}

export const luminance = (hex) =>
  [0.2126, 0.7152, 0.0722].reduce((sum, part, place) => sum + part * parseInt(hex.slice(1 + 2 * place, 3 + 2 * place), 16), 0);

const CHANNELS = [["r", "g", "b"], ["red", "green", "blue"]];

// Whether the names of three features are those of a colour's channels.
export function isColour(features) {
  const names = features.map((name) => name.toLowerCase());
  return CHANNELS.some((channels) => names.length === 3 && channels.every((channel, place) => names[place].endsWith(channel)));
}
