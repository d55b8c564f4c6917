// From the columns of the API to objects.

import { printable } from "./format.js";

// Return the components of a version: { id, x, y, cov, weight, mass }.
export function componentsOf({ components }) {
  const { id, x, y, weight, mass, xx, xy, yy } = components;
  return id.map((each, place) => {
    const known = xx && Number.isFinite(xx[place]) && Number.isFinite(yy[place]);
    return {
      id: each, place, x: x[place], y: y[place], weight: weight[place], mass: mass[place],
      cov: known ? [xx[place], xy[place] ?? 0, yy[place]] : null,
    };
  });
}

let drawn = 0;

// Return points as [x, y, component]. In a model of one feature, y only keeps points apart.
export function pointsOf({ x, y, code }, flat) {
  const apart = () => 2 * ((drawn++ * 0.6180339887) % 1) - 1;
  return x.map((value, place) => [value, flat ? apart() : y[place], code[place]]);
}

// Return the axes as the plane shows them.
export function axesOf({ axes, share, kind }) {
  const [x, y] = axes.map((axis, place) => axis && {
    label: kind === "features" ? printable(axis.label, 80) : axisName(place, axis.loadings),
    share: share?.[place],
  });
  return { x, y };
}

function axisName(place, loadings) {
  const main = loadings.slice(0, 2).map(({ feature, value }) => `${value < 0 ? "−" : "+"} ${printable(feature, 40)}`);
  const name = `axis ${place + 1}`;
  return main.length ? `${name}: ${main.join(" ").replace(/^\+ /, "")}${loadings.length > 2 ? " …" : ""}` : name;
}

export const higherIsBetter = (scoreName) => scoreName === "log_likelihood";

export function scoreWords(scoreName, metric) {
  if (higherIsBetter(scoreName)) return "log-likelihood per point, in nats (higher is better)";
  return metric === "cosine" ? "inertia per point, the mean of 1 − cos (lower is better)" : "inertia per point, the mean squared distance (lower is better)";
}

const KINDS = { kmeans: "K-means", gaussian_mixture: "Gaussian mixture" };
export const kindWords = (row) => KINDS[row.kind] ?? row.kind;

export const REASONS = {
  start: "first version", step: "interval", reseed: "revived component", resolve: "recluster", resize: "number of components changed",
  drift: "drift", refit: "refit", rollback: "rollback", leave: "worker left",
};
