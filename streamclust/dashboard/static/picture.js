// A picture of the visitor in the colours of a palette. The picture doesn't leave the browser.

import { h, setText } from "./dom.js";
import { count, number, plural } from "./format.js";

const SIDE = 480; // pixels of the longer side; larger pictures are made smaller
const LEAST_MS = 1000; // between two versions that are drawn

export class PicturePanel {
  constructor() {
    this.input = h("input", { type: "file", accept: "image/*", onchange: () => this.open(this.input.files[0]) });
    this.before = h("canvas", { role: "img", "aria-label": "The picture" });
    this.after = h("canvas", { role: "img" });
    this.caption = h("p", { class: "muted small" }, "Choose a picture to see it in the colours of the model. It stays in this browser.");
    this.pair = h("div", { class: "pictures", hidden: true }, this.before, this.after);
    this.element = h("section", { class: "panel", "aria-label": "A picture in these colours", hidden: true },
      h("header", {}, h("h2", {}, "A picture in these colours"), h("label", { class: "row" }, "Picture", this.input)), this.caption, this.pair);
    this.drawn = 0;
  }

  // Show the picture in the colours of a version; null for a model that isn't a palette.
  set(hex) {
    this.element.hidden = !hex;
    this.colours = hex?.map((text) => [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16)));
    if (hex && this.pixels && performance.now() - this.drawn > LEAST_MS) this.draw();
  }

  async open(file) {
    if (!file) return;
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      setText(this.caption, "This file isn't a picture that the browser can read.");
      return;
    }
    const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
    const [width, height] = [Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale))];
    for (const canvas of [this.before, this.after]) Object.assign(canvas, { width, height });
    const context = this.before.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0, width, height);
    this.pixels = context.getImageData(0, 0, width, height);
    this.pair.hidden = false;
    this.draw();
  }

  draw() {
    this.drawn = performance.now();
    const { data, width, height } = this.pixels;
    const found = new ImageData(width, height);
    let error = 0;
    for (let place = 0; place < data.length; place += 4) {
      const [nearest, distance] = this.nearest(data[place], data[place + 1], data[place + 2]);
      error += distance;
      found.data.set(nearest, place);
      found.data[place + 3] = data[place + 3];
    }
    this.after.getContext("2d").putImageData(found, 0, 0);
    const mean = error / (3 * width * height);
    const words = `${plural(this.colours.length, "colour")}, PSNR ${mean ? number(10 * Math.log10(255 ** 2 / mean), 3) : "∞"} dB (higher is better)`;
    this.after.setAttribute("aria-label", `The picture in ${words}`);
    setText(this.caption, `Right: the picture in ${words}; ${count(width)} × ${count(height)} pixels.`);
  }

  nearest(red, green, blue) {
    let best = null;
    let least = Infinity;
    for (const colour of this.colours) {
      const distance = (colour[0] - red) ** 2 + (colour[1] - green) ** 2 + (colour[2] - blue) ** 2;
      if (distance < least) [best, least] = [colour, distance];
    }
    return [best, least];
  }
}
