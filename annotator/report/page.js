"use strict";
// Draws timelines and transcripts from the page's own data. Everything from the table goes through
// textContent or attributes that take no code; the page's policy forbids all else.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.recordings.length) return;

  const MODALITIES = ["text", "audio", "face"]; // bits 0, 1, 2
  const SIGNS = { positive: "+", neutral: "○", negative: "−" };
  const LANE = 38, BLOCK = 30, AXIS = 22; // pixels
  const LANES = 12; // more speakers than this share the last lane
  const ROWS = 100; // transcript rows added at a time
  const SVG = document.querySelector("svg").namespaceURI;
  const NAMES = ["start", "end", "speaker", "text", "emotion", "confidence", "probabilities",
    "sentiment", "sentimentProbability", "used", "flags", "conversation",
    "plausible", "alone"];

  const id = (name) => document.getElementById(name);
  // For comparing: a name typed on a keyboard should find the same name as another system spells it.
  const fold = (text) => text.normalize("NFC").toLowerCase();
  const number = (n) => n.toLocaleString("en");

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

  // ---- what is shown: one object a recording, one an utterance ------------------------------------

  const filter = { text: "", file: "", speaker: "", emotions: new Set() };
  const filtering = () => filter.text || filter.file || filter.speaker || filter.emotions.size > 0;

  const recordings = data.recordings.map((source, place) => {
    const utterances = source.rows.map((row, index) => {
      const u = { index };
      NAMES.forEach((name, column) => { u[name] = row[column]; });
      u.who = source.speakers[u.speaker];
      u.flags = u.flags.map((flag) => source.flags[flag]);
      u.folded = u.text === null ? "" : fold(u.text);
      u.whoFolded = fold(u.who);
      return u;
    });
    return {
      file: source.file, folded: fold(source.file), speakers: source.speakers, until: source.until,
      utterances, matching: utterances, rows: 0, zoom: 1, now: null, stale: true, blocks: new Map(), lines: new Map(),
      element: document.querySelector(`details[data-recording="${place}"]`),
    };
  });

  function matches(recording, u) {
    return (!filter.text || u.folded.includes(filter.text))
      && (!filter.speaker || u.whoFolded.includes(filter.speaker))
      && (!filter.emotions.size || filter.emotions.has(u.emotion));
  }

  // ---- timeline -----------------------------------------------------------------------------------

  function lanesOf(recording) {
    const spoken = recording.speakers.map(() => 0);
    for (const u of recording.utterances) spoken[u.speaker] += u.end - u.start;
    const all = recording.speakers.map((_, speaker) => speaker);
    if (all.length <= LANES) return { names: recording.speakers, lane: all };
    const most = all.slice().sort((a, b) => spoken[b] - spoken[a]).slice(0, LANES - 1).sort((a, b) => a - b);
    const lane = all.map((speaker) => (most.includes(speaker) ? most.indexOf(speaker) : LANES - 1));
    return { names: [...most.map((s) => recording.speakers[s]), `${all.length - LANES + 1} others`], lane };
  }

  function ticks(until, width) {
    const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800];
    const step = steps.find((s) => (s / until) * width >= 80) || until;
    return Array.from({ length: Math.floor(until / step) + 1 }, (_, i) => i * step);
  }

  function drawTimeline(recording, paper = null) {
    const place = recording.element.querySelector(".timeline");
    if (!recording.track) buildTimeline(recording, place);
    const { names, lane } = recording.lanes, track = recording.track;
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
      const left = x(u.start), wide = Math.max(x(u.end) - left, 1.5), top = lane[u.speaker] * LANE + 4;
      const style = data.styles[u.emotion], tall = (BLOCK * Math.min(u.confidence, 100)) / 100;
      const block = draw("g", { class: `u ${style}`, "data-u": u.index },
        draw("rect", { class: "extent", x: left, y: top, width: wide, height: BLOCK, rx: 2 }),
        draw("rect", { class: "k", x: left, y: top + BLOCK - tall, width: wide, height: tall, rx: 1 }));
      const name = data.labels[u.emotion];
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
    if (recording.now) recording.blocks.get(recording.now).classList.add("now");
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
      if (u) { choose(recording, u); toTranscript(recording, u); }
    });
    track.addEventListener("keydown", (event) => steer(recording, event));
  }

  function zoom(recording, factor) {
    const track = recording.track;
    const middle = (track.scrollLeft + track.clientWidth / 2) / Math.max(track.scrollWidth, 1);
    recording.zoom = factor ? Math.min(Math.max(recording.zoom * factor, 1), 256) : 1;
    drawTimeline(recording);
    const now = recording.now;
    const focus = now ? (now.start + now.end) / 2 / Math.max(recording.until, 0.1) : middle;
    track.scrollLeft = focus * track.scrollWidth - track.clientWidth / 2;
  }

  function steer(recording, event) {
    const found = recording.matching, now = recording.now, lane = recording.lanes.lane;
    const at = now ? found.indexOf(now) : -1;
    const key = event.key;
    let next = null;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "ArrowRight") next = found[Math.min(at + 1, found.length - 1)];
    else if (key === "ArrowLeft") next = found[Math.max(at - 1, 0)];
    else if (key === "Home") next = found[0];
    else if (key === "End") next = found[found.length - 1];
    else if ((key === "ArrowUp" || key === "ArrowDown") && now) {
      const ahead = (u) => (lane[u.speaker] - lane[now.speaker]) * (key === "ArrowUp" ? -1 : 1);
      const away = (u) => ahead(u) * 1e9 + Math.abs(u.start - now.start);
      next = found.filter((u) => ahead(u) > 0).reduce((best, u) => (!best || away(u) < away(best) ? u : best), null);
    } else if (key === "Enter" && now) toTranscript(recording, now);
    else if (key === "+" || key === "=") zoom(recording, 2);
    else if (key === "-") zoom(recording, 0.5);
    else if (key === "Escape") { hideTip(); return; }
    else if (key !== "ArrowUp" && key !== "ArrowDown") return;
    event.preventDefault();
    if (!next) return;
    choose(recording, next);
    const box = recording.blocks.get(next).getBoundingClientRect(), frame = recording.track.getBoundingClientRect();
    if (box.left < frame.left || box.right > frame.right) {
      recording.track.scrollLeft += box.left - frame.left - frame.width / 3;
    }
    const seen = recording.blocks.get(next).getBoundingClientRect();
    showTip(next, seen.left, seen.bottom + 6);
    id("said").textContent = inWords(next);
  }

  function choose(recording, u) {
    for (const marks of [recording.blocks, recording.lines]) {
      if (recording.now && marks.has(recording.now)) marks.get(recording.now).classList.remove("now");
      if (marks.has(u)) marks.get(u).classList.add("now");
    }
    recording.now = u;
  }

  // ---- tip ----------------------------------------------------------------------------------------

  const name = (label) => data.labels[label];
  const said = (u) => (u.text === null ? "– no transcript" : u.text === "" ? "– no words" : `“${u.text}”`);
  const inWords = (u) => `${clock(u.start)} to ${clock(u.end)}, ${u.who}: ${said(u)} `
    + `${data.labels[u.emotion]} ${u.confidence}%, ${data.sentiments[u.sentiment]}.`;

  function showTip(u, x, y) {
    const tip = id("tip");
    const likely = u.probabilities.map((p, label) => [p, label]).sort((a, b) => b[0] - a[0]).slice(0, 4);
    const sentiment = data.sentiments[u.sentiment];
    tip.replaceChildren(...[
      make("p", { className: "faint" }, `${clock(u.start)} – ${clock(u.end)} · `, make("bdi", {}, u.who)),
      make("p", { dir: "auto" }, u.text && u.text.length > 300 ? `“${u.text.slice(0, 300)} …”` : said(u)),
      make("table", {}, make("tbody", {}, ...likely.map(([p, label]) => make("tr", {},
        make("th", { scope: "row" }, label === u.emotion ? make("strong", {}, data.labels[label]) : data.labels[label]),
        make("td", { className: "bar" }, bar(data.styles[label], p)),
        make("td", { className: "number" }, `${p}%`))))),
      u.plausible.length ? make("p", { className: "faint" }, `Plausible: ${u.plausible.map(name).join(", ")}`) : null,
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

  // ---- transcript ---------------------------------------------------------------------------------

  function highlighted(text) {
    if (!filter.text) return [text];
    const parts = [], folded = fold(text);
    if (folded.length !== text.length) return [text]; // places would not agree
    let from = 0;
    for (let at = folded.indexOf(filter.text); at >= 0; at = folded.indexOf(filter.text, from)) {
      parts.push(text.slice(from, at), make("mark", {}, text.slice(at, at + filter.text.length)));
      from = at + filter.text.length;
    }
    return [...parts, text.slice(from)];
  }

  function line(recording, u) {
    const style = data.styles[u.emotion], sentiment = data.sentiments[u.sentiment];
    const text = u.text ? highlighted(u.text)
      : [make("span", { className: "faint" }, u.text === null ? "– no transcript" : "– no words")];
    const used = MODALITIES.flatMap((modality, bit) => (u.used & (1 << bit)
      ? [u.alone[bit] ? `${modality}: ${name(u.alone[bit][0])} ${u.alone[bit][1]}%` : modality] : []));
    const row = make("tr", {},
      make("td", {}, make("button", { type: "button", className: "time", title: "Show on the timeline",
        onclick: () => toTimeline(recording, u) }, `${clock(u.start)} – ${clock(u.end)}`)),
      make("td", { dir: "auto" }, u.who),
      make("td", { dir: "auto" }, ...text),
      make("td", {}, make("div", { className: "emotion" }, swatch(style), make("span", {}, data.labels[u.emotion]),
        make("span", { className: "number" }, `${u.confidence}%`), make("span"), bar(style, u.confidence))),
      make("td", {}, `${SIGNS[sentiment]} ${sentiment}`),
      make("td", { className: "faint" }, used.join(", ") || "nothing"),
      make("td", {}, ...u.flags.map((flag) => make("span", { className: "flag" }, flag))));
    if (u === recording.now) row.className = "now";
    recording.lines.set(u, row);
    return row;
  }

  function addRows(recording, upTo) {
    const several = new Set(recording.utterances.map((u) => u.conversation)).size > 1;
    const found = recording.matching;
    for (; recording.rows < Math.min(upTo, found.length); recording.rows += 1) {
      const u = found[recording.rows], before = found[recording.rows - 1];
      if (several && (!before || before.conversation !== u.conversation)) {
        recording.body.append(make("tr", { className: "between" },
          make("td", { colSpan: 7 }, `Conversation ${u.conversation + 1}`)));
      }
      recording.body.append(line(recording, u));
    }
    const left = found.length - recording.rows;
    recording.more.hidden = left === 0;
    recording.more.textContent = `Show ${Math.min(left, ROWS)} more of ${number(left)}`;
  }

  function drawTranscript(recording) {
    recording.rows = 0;
    recording.lines = new Map();
    recording.body = make("tbody");
    recording.more = make("button", { type: "button", className: "more",
      onclick: () => addRows(recording, recording.rows + ROWS) });
    const head = ["Time", "Speaker", "What is said", "Emotion", "Sentiment", "Used", "Flags"];
    const box = make("div", { className: "box", tabIndex: 0, role: "region", "aria-label": `Transcript of ${recording.file}` },
      make("table", { className: "rows" },
        make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))), recording.body),
      recording.more);
    addRows(recording, ROWS);
    recording.element.querySelector(".transcript").replaceChildren(box);
  }

  function toTranscript(recording, u) {
    addRows(recording, Math.max(recording.rows, recording.matching.indexOf(u) + 20));
    const row = recording.lines.get(u);
    if (row) row.scrollIntoView({ block: "nearest" });
    if (row) row.querySelector("button").focus({ preventScroll: true });
  }

  function toTimeline(recording, u) {
    choose(recording, u);
    recording.track.focus({ preventScroll: true });
    recording.track.scrollIntoView({ block: "center" });
    const box = recording.blocks.get(u).getBoundingClientRect(), frame = recording.track.getBoundingClientRect();
    recording.track.scrollLeft += box.left - frame.left - frame.width / 3;
    const seen = recording.blocks.get(u).getBoundingClientRect();
    // After the scroll event, which hides tips.
    requestAnimationFrame(() => requestAnimationFrame(() => showTip(u, seen.left, seen.bottom + 6)));
  }

  // ---- filters, opening, printing -----------------------------------------------------------------

  function refresh(recording) {
    if (!recording.element.open || recording.element.hidden || !recording.stale) return;
    recording.stale = false;
    if (recording.track) dimOthers(recording); else drawTimeline(recording);
    drawTranscript(recording);
  }

  function apply() {
    let found = 0, within = 0;
    for (const recording of recordings) {
      const here = !filter.file || recording.folded.includes(filter.file);
      recording.matching = here ? recording.utterances.filter((u) => matches(recording, u)) : [];
      if (recording.now && !recording.matching.includes(recording.now)) {
        recording.blocks.get(recording.now).classList.remove("now");
        recording.now = null;
      }
      recording.stale = true;
      recording.element.hidden = recording.matching.length === 0;
      found += recording.matching.length;
      within += recording.matching.length ? 1 : 0;
    }
    // What is looked for should be seen at once.
    const first = recordings.find((recording) => !recording.element.hidden);
    if (filtering() && first && !recordings.some((r) => r.element.open && !r.element.hidden)) first.element.open = true;
    for (const row of document.querySelectorAll(".list tbody tr")) {
      row.hidden = !!filter.file && !fold(row.firstElementChild.textContent).includes(filter.file);
    }
    hideTip();
    recordings.forEach(refresh);
    id("nothing").hidden = found > 0;
    const all = recordings.reduce((sum, recording) => sum + recording.utterances.length, 0);
    id("matches").textContent = filtering()
      ? `${number(found)} of ${number(all)} utterances in ${number(within)} of ${number(recordings.length)} recordings`
      : `${number(all)} utterances in ${number(recordings.length)} recording${recordings.length === 1 ? "" : "s"}. Press an emotion to see only that.`;
  }

  let waiting = 0;
  function soon() { clearTimeout(waiting); waiting = setTimeout(apply, 150); }
  for (const name of ["text", "file", "speaker"]) {
    id(`by-${name}`).addEventListener("input", (event) => {
      filter[name] = fold(event.target.value.trim());
      soon();
    });
  }
  const chips = [...document.querySelectorAll(".chip")];
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      const emotion = Number(chip.dataset.emotion);
      if (!filter.emotions.delete(emotion)) filter.emotions.add(emotion);
      chip.setAttribute("aria-pressed", String(filter.emotions.has(emotion)));
      apply();
    });
  }
  const form = id("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    Object.assign(filter, { text: "", file: "", speaker: "", emotions: new Set() });
    for (const chip of chips) chip.setAttribute("aria-pressed", "false");
    soon();
  });
  id("clear").addEventListener("click", () => form.reset());
  const setAll = (open) => () => { for (const r of recordings) r.element.open = open; };
  id("open-all").addEventListener("click", setAll(true));
  id("close-all").addEventListener("click", setAll(false));
  for (const recording of recordings) recording.element.addEventListener("toggle", () => refresh(recording));

  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => recordings.filter((r) => r.track).forEach((r) => {
      if (r.element.open && !r.element.hidden) drawTimeline(r);
      else { r.track = null; r.stale = true; } // drawn anew when it is seen again
    }), 150);
  });
  const opened = () => recordings.filter((r) => r.element.open && !r.element.hidden);
  addEventListener("beforeprint", () => {
    for (const recording of opened()) {
      refresh(recording);
      addRows(recording, recording.matching.length);
      drawTimeline(recording, 560); // pixels that fit beside the names on A4 and Letter
    }
  });
  addEventListener("afterprint", () => opened().forEach((recording) => drawTimeline(recording)));

  id("files").append(...recordings.map((r) => make("option", { value: r.file })));
  const people = [...new Set(recordings.flatMap((r) => r.speakers))].slice(0, 500);
  id("speakers").append(...people.map((name) => make("option", { value: name })));
  form.hidden = false;
  id("all").hidden = recordings.length < 2;
  apply();
})();
