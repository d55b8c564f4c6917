// Elements are made here, and only from text: no string is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Return a new element: h("a", { href: "?", onclick: f }, "text", child, ...).
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

// Make the children of an element equal to new ones, and change as little as possible: a refresh
// disturbs neither the focus, nor a screen reader, nor a selection of text. Children with the same
// data-key are the same. Elements keep their listeners, so new children with listeners of their own
// must have a key, or their parent has the listener.
export function replace(element, ...children) {
  const next = fill(element.cloneNode(false), {}, children);
  const focused = document.activeElement;
  morphChildren(element, [...next.childNodes]);
  if (focused !== document.activeElement && element.contains(focused)) focused.focus({ preventScroll: true });
}

function morphChildren(parent, fresh) {
  const keyed = new Map();
  for (const child of parent.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  fresh.forEach((next, place) => {
    const key = next.dataset?.key;
    const found = key === undefined ? parent.childNodes[place] : keyed.get(key);
    if (found && found.nodeName === next.nodeName && found.dataset?.key === key) {
      if (found !== parent.childNodes[place]) parent.insertBefore(found, parent.childNodes[place]);
      morph(found, next);
    } else {
      parent.insertBefore(next, parent.childNodes[place] ?? null);
    }
  });
  while (parent.childNodes.length > fresh.length) parent.lastChild.remove();
}

function morph(old, next) {
  if (old.isEqualNode(next)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && !KEPT.has(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes) {
    if (name === "style") old.style.cssText = next.style.cssText;
    else if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, [...next.childNodes]);
}

const KEPT = new Set(["open"]);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const colours = new Map();
const probe = h("span", { hidden: true });

// Return a named colour of style.css in the current theme, for a canvas.
export function colour(name) {
  if (!colours.has(name)) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(${name})`;
    colours.set(name, getComputedStyle(probe).color);
  }
  return colours.get(name);
}

export const forgetColours = () => colours.clear();

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
