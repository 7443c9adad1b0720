// ---- transcript: of a recording, and one list of utterances from all ----------------------------------

const ROWS = 100; // rows added at a time
const flat = { on: false, matching: [], rows: 0, lines: new Map(), body: null, more: null };

function line(u, lines) {
  const sentiment = data.sentiments[u.sentiment];
  const used = MODALITIES.flatMap((modality, bit) => (u.used & (1 << bit)
    ? [u.alone[bit] ? `${modality}: ${nameOf(u.alone[bit][0])} ${u.alone[bit][1]}%` : modality] : []));
  const row = make("tr", {},
    make("td", { className: "when" }, make("button", { type: "button", className: "time", title: "Go there" },
      `${clock(u.start)} – ${clock(u.end)}`)),
    make("td", { className: "speaker", dir: "auto" }, whoOf(u),
      ...(lines === flat.lines ? [make("div", { className: "faint" }, make("bdi", {}, u.recording.file))] : [])),
    make("td", { className: "said-here", dir: "auto" }, ...saying(u, u === now)),
    make("td", { className: "feeling" }, emotionCell(u)),
    make("td", { className: "mood-word" }, `${SIGNS[sentiment]} ${sentiment}`),
    make("td", { className: "faint used" }, used.join(", ") || "nothing"),
    make("td", { className: "flags" }, ...u.flags.map((flag) => make("span", { className: "flag" }, flag))));
  row.addEventListener("click", () => { if (getSelection().isCollapsed) choose(u); });
  row.addEventListener("dblclick", play);
  row.className = [u === now ? "now" : "", statusOf(u)].join(" ").trim();
  lines.set(u, row);
  return row;
}

function emotionCell(u) {
  const label = labelOf(u), status = statusOf(u);
  const told = { accepted: "✓ accepted", relabelled: `✓ was ${nameOf(u.emotion)}`, unusable: "✕ unusable" }[status];
  return make("div", { className: "emotion" }, swatch(styleOf(label)), make("span", {}, nameOf(label)),
    make("span", { className: "number" }, label === u.emotion ? `${u.confidence}%` : ""),
    told ? make("span", { className: "told" }, told) : null,
    told ? null : make("span"), told ? null : bar(styleOf(label), u.confidence));
}

/** Draw anew whatever shows an utterance. */
function redraw(u) {
  for (const lines of [u.recording.lines, flat.lines]) {
    const row = lines.get(u);
    if (row) {
      const focused = row.contains(document.activeElement);
      const fresh = line(u, lines);
      row.replaceWith(fresh);
      if (focused) fresh.querySelector("button").focus({ preventScroll: true });
    }
  }
  const block = u.recording.blocks.get(u);
  if (block) {
    block.setAttribute("class", `u ${styleOf(labelOf(u))}${u === now ? " now" : ""}`);
    const text = block.querySelector("text");
    if (text) text.textContent = nameOf(labelOf(u));
  }
}

function addRows(list, upTo, between) {
  const found = list.matching;
  for (; list.rows < Math.min(upTo, found.length); list.rows += 1) {
    const u = found[list.rows], before = found[list.rows - 1];
    if (between && (!before || before.conversation !== u.conversation)) {
      list.body.append(make("tr", { className: "between" }, make("td", { colSpan: 7 }, `Conversation ${u.conversation + 1}`)));
    }
    list.body.append(line(u, list.lines));
  }
  const left = found.length - list.rows;
  list.more.hidden = left === 0;
  list.more.textContent = `Show ${Math.min(left, ROWS)} more of ${number(left)}`;
}

function addSome(list, upTo) {
  const several = list !== flat && new Set(list.utterances.map((u) => u.conversation)).size > 1;
  addRows(list, upTo, several);
}

function drawTranscript(list, place, name) {
  list.rows = 0;
  list.lines = new Map();
  list.body = make("tbody");
  list.more = make("button", { type: "button", className: "more", onclick: () => addSome(list, list.rows + ROWS) });
  const head = ["Time", "Speaker", "What is said", "Emotion", "Sentiment", "Used", "Flags"];
  place.replaceChildren(make("div", { className: "box", tabIndex: 0, role: "region", "aria-label": name },
    make("table", { className: "rows" },
      make("thead", {}, make("tr", {}, ...head.map((title) => make("th", { scope: "col" }, title)))), list.body),
    list.more));
  addSome(list, ROWS);
}

/** See that an utterance has its row, if what is looked for lets it. */
function showRow(u) {
  const list = flat.on ? flat : u.recording, at = list.matching.indexOf(u);
  if (at >= 0 && list.body) addSome(list, Math.max(list.rows, at + 20));
}

function toTranscript(u) {
  showRow(u);
  const row = rowOf(u);
  if (!row) return;
  row.scrollIntoView({ block: "nearest" });
  row.querySelector("button").focus({ preventScroll: true });
}
