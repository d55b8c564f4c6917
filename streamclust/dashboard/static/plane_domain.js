// Which part of the plane is shown.

export const SIGMAS = 2;
// Whether the whole area of a component is shown: the area of a few outliers is huge.
export const isLarge = (mass, total, n) => mass / total > Math.min(0.02, 0.25 / n);
export const MARGIN = { left: 52, right: 12, top: 12, bottom: 40 };

// Return the rectangle of components and of most points. A model of one feature is flat.
export function extent(components, points, flat) {
  const xs = [];
  const ys = [];
  const total = components.reduce((sum, each) => sum + each.mass, 0) || 1;
  for (const { x, y, cov, mass } of components) {
    const [wide, high] = cov && isLarge(mass, total, components.length) ? [SIGMAS * Math.sqrt(cov[0]), SIGMAS * Math.sqrt(cov[2])] : [0, 0];
    xs.push(x - wide, x + wide);
    ys.push(y - high, y + high);
  }
  if (points.length > 20) {
    const middle = (values) => [values[Math.floor(values.length * 0.01)], values[Math.ceil(values.length * 0.99) - 1]];
    xs.push(...middle(points.map(([x]) => x).sort((one, other) => one - other)));
    ys.push(...middle(points.map(([, y]) => y).sort((one, other) => one - other)));
  }
  if (!xs.length) return null;
  const [x0, x1] = widened(xs);
  const [y0, y1] = flat ? [-1.5, 1.5] : widened(ys);
  return { x0, x1, y0, y1 };
}

function widened(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const size = high - low || Math.abs(high) || 1;
  return [low - 0.08 * size, high + 0.08 * size];
}

// Whether a rectangle is well shown by another: the picture shouldn't jump at each version.
export function fits(domain, wanted) {
  const inside = wanted.x0 >= domain.x0 && wanted.x1 <= domain.x1 && wanted.y0 >= domain.y0 && wanted.y1 <= domain.y1;
  const large = (low, high) => wanted[high] - wanted[low] > 0.5 * (domain[high] - domain[low]);
  return inside && large("x0", "x1") && large("y0", "y1");
}
