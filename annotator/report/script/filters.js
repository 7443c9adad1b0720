// ---- what is shown: filters, order, recordings or one list ----------------------------------------------

const LISTED = 50; // recordings added to the list at a time
const NO_FILTER = { text: "", file: "", speaker: "", least: 0, most: 100, plausible: "", flag: "", sentiment: "", agree: "", state: "" };
const filter = { ...NO_FILTER, emotions: new Set(), sort: "time" };
let shown = []; // recordings that match, in order
let listed = LISTED;

const byRow = () => filter.emotions.size > 0 || Object.keys(NO_FILTER).some((key) => key !== "file" && filter[key] !== NO_FILTER[key]);
const filtering = () => byRow() || filter.file !== "";

const PLAUSIBLE = { one: (n) => n === 1, two: (n) => n === 2, three: (n) => n === 3, more: (n) => n > 3 };
const AGREE = {
  all: (u) => modalitiesAgree(u) === true,
  differ: (u) => modalitiesAgree(u) === false,
  "text-audio": (u) => modalitiesAgree(u, [0, 1]) === false,
  "text-face": (u) => modalitiesAgree(u, [0, 2]) === false,
  "audio-face": (u) => modalitiesAgree(u, [1, 2]) === false,
};

function matches(u) {
  return (!filter.text || fold(textOf(u) ?? "").includes(filter.text))
    && (!filter.speaker || fold(whoOf(u)).includes(filter.speaker))
    && (!filter.emotions.size || filter.emotions.has(labelOf(u)))
    && u.confidence >= filter.least && u.confidence <= filter.most
    && (!filter.plausible || (filter.plausible in PLAUSIBLE ? PLAUSIBLE[filter.plausible](u.plausible.length)
      : u.plausible.includes(Number(filter.plausible))))
    && (!filter.flag || (filter.flag === "any" ? u.flags.length > 0 : filter.flag === "none" ? !u.flags.length : u.flags.includes(filter.flag)))
    && (!filter.sentiment || data.sentiments[u.sentiment] === filter.sentiment)
    && (!filter.agree || AGREE[filter.agree](u))
    && (!filter.state || (filter.state === "open" ? !statusOf(u) : filter.state === "done" ? !!fixOf(u) : statusOf(u) === filter.state));
}

const ORDERS = {
  margin: (a, b) => a.margin - b.margin,
  least: (a, b) => a.confidence - b.confidence,
  most: (a, b) => b.confidence - a.confidence,
  long: (a, b) => (b.end - b.start) - (a.end - a.start),
  emotion: (a, b) => labelOf(a) - labelOf(b) || b.confidence - a.confidence,
  speaker: (a, b) => whoOf(a).localeCompare(whoOf(b)),
};

function inOrder(found) {
  if (filter.sort !== "review") return found.sort(ORDERS[filter.sort]);
  const among = new Set(found);
  return data.review.map(([place, row]) => recordings[place].utterances[row]).filter((u) => among.has(u));
}

let asked = 0; // which apply() is the last
async function apply() {
  const mine = asked += 1;
  hideTip();
  const wantsList = filter.sort !== "time";
  if ((wantsList || byRow()) && !allLoaded()) {
    for (const [place] of data.parts.entries()) {
      id("matches").textContent = `Reading part ${place + 1} of ${data.parts.length} …`;
      await load(recordings[data.starts[place]]);
      if (mine !== asked) return;
    }
    fillNames();
  }
  const before = shown.length ? shown.map((r) => r.place).join() : null;
  shown = recordings.filter((recording) => {
    const here = !filter.file || recording.folded.includes(filter.file);
    recording.stale = true;
    if (recording.utterances) recording.matching = here ? (byRow() ? recording.utterances.filter(matches) : recording.utterances) : [];
    return here && (!recording.utterances || recording.matching.length > 0);
  });
  flat.on = wantsList;
  id("flat").hidden = !wantsList;
  id("list").hidden = wantsList;
  id("recordings").textContent = wantsList ? "Utterances" : "Recordings";
  id("all").hidden = wantsList || recordings.length < 2;
  if (wantsList) {
    flat.matching = inOrder(shown.flatMap((recording) => recording.matching));
    drawTranscript(flat, id("flat"), "Utterances");
  } else {
    if (before !== shown.map((r) => r.place).join()) { listed = LISTED; list(); }
    // What is looked for should be seen at once.
    if (filtering() && shown.length && !shown.some((r) => r.element?.open)) shown[0].element.open = true;
    shown.forEach(refresh);
  }
  const found = shown.reduce((sum, r) => sum + (r.matching?.length ?? r.count), 0);
  const all = recordings.reduce((sum, r) => sum + r.count, 0);
  id("nothing").hidden = found > 0;
  id("matches").textContent = filtering()
    ? `${number(found)} of ${number(all)} utterances in ${number(shown.length)} of ${plural(recordings.length, "recording")}`
    : `${number(all)} utterances in ${plural(recordings.length, "recording")}. Press an emotion to see only that.`;
}

// ---- the list of recordings -------------------------------------------------------------------------------

function strip(emotions) {
  const whole = emotions.reduce((a, b) => a + b, 0), svg = draw("svg", { class: "strip", viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  let left = 0;
  for (const [label, count] of emotions.entries()) {
    if (!count) continue;
    const wide = (100 * count) / whole;
    svg.append(draw("rect", { class: `k ${styleOf(label)}`, x: left.toFixed(2), width: wide.toFixed(2), height: 1 }));
    left += wide;
  }
  const most = [...emotions.entries()].filter(([, c]) => c).sort((a, b) => b[1] - a[1]).slice(0, 3);
  const told = `mostly ${most.map(([label, c]) => `${nameOf(label)} ${Math.round((100 * c) / whole)}%`).join(", ")}`;
  return make("span", { className: "strip-cell", role: "img", "aria-label": told, title: told }, svg);
}

function element(recording) {
  if (recording.element) return recording.element;
  recording.element = make("details", { className: "recording card", "data-recording": recording.place },
    make("summary", {}, make("span", { className: "name" }, make("bdi", {}, recording.file)), strip(recording.emotions),
      make("span", { className: "faint short" }, `${clock(recording.until, 0)} · ${plural(recording.people, "speaker")} · ${plural(recording.count, "utterance")}${recording.media ? " · ▶" : ""}`)),
    make("div", { className: "timeline" }), make("div", { className: "transcript" }),
    make("div", { className: "over-time" }), make("div", { className: "charts" }));
  recording.element.addEventListener("toggle", () => refresh(recording));
  return recording.element;
}

function list() {
  id("list").replaceChildren(...shown.slice(0, listed).map(element));
  const left = shown.length - Math.min(listed, shown.length);
  if (left) {
    id("list").append(make("button", { type: "button", className: "more", onclick: () => { listed += LISTED; list(); shown.forEach(refresh); } },
      `Show ${Math.min(left, LISTED)} more of ${plural(left, "recording")}`));
  }
}

async function refresh(recording) {
  if (!recording.element?.open || !recording.element.offsetParent || !recording.stale) return;
  await load(recording);
  if (!recording.stale) return;
  recording.stale = false;
  if (recording.track) {
    dimOthers(recording);
  } else {
    drawTimeline(recording);
    drawMoods(recording);
    drawCharts(recording);
  }
  drawTranscript(recording, recording.element.querySelector(".transcript"), `Transcript of ${recording.file}`);
}

function fillNames() {
  const people = [...new Set(recordings.flatMap((r) => r.speakers ?? []))].slice(0, 500);
  id("speakers").replaceChildren(...people.map((name) => make("option", { value: name })));
}
