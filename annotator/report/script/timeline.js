// ---- timeline ----------------------------------------------------------------------------------------

const LANE = 38, BLOCK = 30, AXIS = 22; // pixels
const LANES = 12; // more speakers than this share the last lane

function lanesOf(recording) {
  const spoken = new Map(); // in order of appearance
  for (const u of recording.utterances) spoken.set(whoOf(u), (spoken.get(whoOf(u)) ?? 0) + u.end - u.start);
  const all = [...spoken.keys()];
  let names = all;
  if (all.length > LANES) {
    const most = new Set(all.slice().sort((a, b) => spoken.get(b) - spoken.get(a)).slice(0, LANES - 1));
    names = [...all.filter((name) => most.has(name)), `${all.length - LANES + 1} others`];
  }
  const lane = new Map(all.map((name) => [name, names.includes(name) ? names.indexOf(name) : LANES - 1]));
  return { names, laneOf: (u) => lane.get(whoOf(u)) };
}

function ticks(until, width) {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800];
  const step = steps.find((s) => (s / until) * width >= 80) || until;
  return Array.from({ length: Math.floor(until / step) + 1 }, (_, i) => i * step);
}

function drawTimeline(recording, paper = null) {
  const place = recording.element.querySelector(".timeline");
  if (!recording.track) buildTimeline(recording, place);
  const { names, laneOf } = recording.lanes, track = recording.track;
  const room = paper || Math.max(track.clientWidth, 200);
  // Browsers give up on surfaces much wider than this.
  const width = paper || Math.min(Math.round(room * recording.zoom), 60000);
  const until = Math.max(recording.until, 0.1), height = names.length * LANE + AXIS;
  const x = (seconds) => (seconds / until) * (width - 2) + 1;
  const svg = draw("svg", { width, height, "aria-hidden": "true" });
  names.forEach((_, i) => svg.append(draw("rect", { class: "lane", x: 0, y: i * LANE + 2, width, height: LANE - 4, rx: 3 })));
  for (const t of ticks(until, width)) {
    svg.append(draw("line", { class: "grid", x1: x(t), x2: x(t), y1: 0, y2: height - AXIS + 4 }));
    const label = draw("text", { class: "axis", y: height - 5, x: x(t), "text-anchor": t === 0 ? "start" : "middle" });
    label.textContent = clock(t, Number.isInteger(t) ? 0 : 1);
    if (x(t) < width - 18) svg.append(label);
  }
  recording.blocks = new Map();
  for (const u of recording.utterances) {
    const left = x(u.start), wide = Math.max(x(u.end) - left, 1.5), top = laneOf(u) * LANE + 4;
    const tall = (BLOCK * Math.min(u.confidence, 100)) / 100;
    const block = draw("g", { class: `u ${styleOf(labelOf(u))}`, "data-u": u.index },
      draw("rect", { class: "extent", x: left, y: top, width: wide, height: BLOCK, rx: 2 }),
      draw("rect", { class: "k", x: left, y: top + BLOCK - tall, width: wide, height: tall, rx: 1 }));
    const name = nameOf(labelOf(u));
    if (wide > name.length * 6.5 + 8) {
      const text = draw("text", { x: left + 4, y: top + 13 });
      text.textContent = name;
      block.append(text);
    }
    recording.blocks.set(u, block);
    svg.append(block);
  }
  dimOthers(recording);
  track.replaceChildren(svg);
  if (now) recording.blocks.get(now)?.classList.add("now");
}

function dimOthers(recording) {
  const found = new Set(recording.matching);
  for (const [u, block] of recording.blocks) block.classList.toggle("dim", !found.has(u));
}

function buildTimeline(recording, place) {
  recording.lanes = lanesOf(recording);
  const track = make("div", {
    className: "track", tabIndex: 0, role: "group",
    "aria-label": `Timeline of ${recording.file}. Left and right go from utterance to utterance, `
      + "up and down change the speaker, Enter goes to the transcript, plus and minus zoom.",
  });
  recording.track = track;
  const zoomed = (factor) => () => zoom(recording, factor);
  place.replaceChildren(
    make("div", { className: "tools" },
      make("p", { className: "faint" }, "Height of a block: probability of its label. ",
        make("span", { className: "hint" }, "Point at one, or use the arrow keys.")),
      make("button", { type: "button", "aria-label": "Zoom out", onclick: zoomed(0.5) }, "−"),
      make("button", { type: "button", "aria-label": "Zoom in", onclick: zoomed(2) }, "+"),
      make("button", { type: "button", onclick: zoomed(0) }, "Fit")),
    make("div", { className: "lanes" },
      make("div", { className: "who" },
        ...recording.lanes.names.map((name) => make("div", { title: name, dir: "auto" }, name))),
      track));
  const under = (event) => {
    const block = event.target.closest ? event.target.closest(".u") : null;
    return block ? recording.utterances[Number(block.dataset.u)] : null;
  };
  track.addEventListener("pointermove", (event) => {
    const u = under(event);
    if (u) showTip(u, event.clientX, event.clientY + 18); else hideTip();
  });
  track.addEventListener("pointerleave", hideTip);
  track.addEventListener("blur", hideTip);
  track.addEventListener("click", (event) => {
    const u = under(event);
    if (u) { showRow(u); choose(u); }
  });
  track.addEventListener("keydown", (event) => steer(recording, event));
}

function zoom(recording, factor) {
  const track = recording.track;
  const middle = (track.scrollLeft + track.clientWidth / 2) / Math.max(track.scrollWidth, 1);
  recording.zoom = factor ? Math.min(Math.max(recording.zoom * factor, 1), 256) : 1;
  drawTimeline(recording);
  const focus = now?.recording === recording ? (now.start + now.end) / 2 / Math.max(recording.until, 0.1) : middle;
  track.scrollLeft = focus * track.scrollWidth - track.clientWidth / 2;
}

function steer(recording, event) {
  const found = recording.matching, laneOf = recording.lanes.laneOf, key = event.key;
  const here = now?.recording === recording ? now : null, at = here ? found.indexOf(here) : -1;
  let next = null;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "ArrowRight") next = found[Math.min(at + 1, found.length - 1)];
  else if (key === "ArrowLeft") next = found[Math.max(at - 1, 0)];
  else if (key === "Home") next = found[0];
  else if (key === "End") next = found[found.length - 1];
  else if ((key === "ArrowUp" || key === "ArrowDown") && here) {
    const ahead = (u) => (laneOf(u) - laneOf(here)) * (key === "ArrowUp" ? -1 : 1);
    const away = (u) => ahead(u) * 1e9 + Math.abs(u.start - here.start);
    next = found.filter((u) => ahead(u) > 0).reduce((best, u) => (!best || away(u) < away(best) ? u : best), null);
  } else if (key === "Enter" && here) toTranscript(here);
  else if (key === "+" || key === "=") zoom(recording, 2);
  else if (key === "-") zoom(recording, 0.5);
  else if (key === "Escape") { hideTip(); return; }
  else if (key !== "ArrowUp" && key !== "ArrowDown") return;
  event.preventDefault();
  if (!next) return;
  showRow(next);
  choose(next);
  const seen = recording.blocks.get(next).getBoundingClientRect();
  showTip(next, seen.left, seen.bottom + 6);
  id("said").textContent = inWords(next);
}

// ---- tip ---------------------------------------------------------------------------------------------

const said = (u) => {
  const text = textOf(u);
  return text === null ? "– no transcript" : text === "" ? "– no words" : `“${text}”`;
};
const inWords = (u) => `${clock(u.start)} to ${clock(u.end)}, ${whoOf(u)}: ${said(u)} `
  + `${nameOf(labelOf(u))}${labelOf(u) === u.emotion ? ` ${u.confidence}%` : ""}, ${data.sentiments[u.sentiment]}.`;

function showTip(u, x, y) {
  const tip = id("tip");
  const likely = u.probabilities.map((p, label) => [p, label]).sort((a, b) => b[0] - a[0]).slice(0, 4);
  const sentiment = data.sentiments[u.sentiment], whole = said(u);
  tip.replaceChildren(...[
    make("p", { className: "faint" }, `${clock(u.start)} – ${clock(u.end)} · `, make("bdi", {}, whoOf(u))),
    make("p", { dir: "auto" }, whole.length > 300 ? `${whole.slice(0, 300)} …”` : whole),
    make("table", {}, make("tbody", {}, ...likely.map(([p, label]) => make("tr", {},
      make("th", { scope: "row" }, label === u.emotion ? make("strong", {}, nameOf(label)) : nameOf(label)),
      make("td", { className: "bar" }, bar(styleOf(label), p)),
      make("td", { className: "number" }, `${p}%`))))),
    u.plausible.length ? make("p", { className: "faint" }, `Plausible: ${u.plausible.map(nameOf).join(", ")}`) : null,
    make("p", { className: "faint" }, `Sentiment: ${sentiment} ${u.sentimentProbability}%`),
  ].filter((part) => part !== null));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(x, window.innerWidth - box.width - 8));
  const top = y + box.height + 8 > window.innerHeight ? y - box.height - LANE - 12 : y;
  tip.style.left = `${left}px`;
  tip.style.top = `${Math.max(8, top)}px`;
}

function hideTip() { id("tip").hidden = true; }
addEventListener("scroll", hideTip, { passive: true });
addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
