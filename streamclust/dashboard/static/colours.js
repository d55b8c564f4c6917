// Colours of components and of palettes.

import { colour } from "./dom.js";

const COLOURS = 8;

// Return the colour of a component in the current theme. The 8 colours differ for people with each
// kind of colour blindness; a number beside the component always repeats what a colour says.
export const componentColour = (id) => colour(`--c${((id % COLOURS) + COLOURS) % COLOURS}`);

export const luminance = (hex) =>
  [0.2126, 0.7152, 0.0722].reduce((sum, part, place) => sum + part * parseInt(hex.slice(1 + 2 * place, 3 + 2 * place), 16), 0);
