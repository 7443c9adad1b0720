// Everything from the table goes through textContent or attributes that take no code; the page's policy
// forbids all else.
const data = JSON.parse(document.getElementById("data").textContent);
if (!data.recordings.length) return;

const MODALITIES = ["text", "audio", "face"]; // bits 0, 1, 2
const SIGNS = { positive: "+", neutral: "○", negative: "−" };
const SVG = document.querySelector("svg").namespaceURI;

const id = (name) => document.getElementById(name);
// For comparing: a name typed on a keyboard should find the same name as another system spells it.
const fold = (text) => text.normalize("NFC").toLowerCase();
const number = (n) => n.toLocaleString("en");
const plural = (n, one) => `${number(n)} ${one}${n === 1 ? "" : "s"}`;

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function clock(seconds, digits = 1) {
  const parts = 10 ** digits, whole = Math.round(seconds * parts);
  const s = (whole / parts) % 60, m = Math.floor(whole / parts / 60) % 60, h = Math.floor(whole / parts / 3600);
  const rest = s.toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${rest}` : `${m}:${rest}`;
}

const swatch = (style) => draw("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" },
  draw("rect", { class: `k ${style}`, x: 0.5, y: 0.5, width: 9, height: 9, rx: 2 }));
const bar = (style, percent) => draw("svg", { class: "probability", "aria-hidden": "true" },
  draw("rect", { class: `k ${style}`, width: `${percent}%`, height: "100%" }));
const nameOf = (label) => data.labels[label];
const styleOf = (label) => data.styles[label];
