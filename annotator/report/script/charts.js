// ---- charts of a recording ---------------------------------------------------------------------------

const SPANS = 48; // of a recording in the chart of moods

function chart(caption, lines, empty) {
  return make("table", { className: "chart" },
    make("caption", {}, caption),
    make("tbody", {}, ...(lines.length ? lines.map(([name, style, count, share]) => make("tr", {},
      make("th", { scope: "row" }, make("bdi", {}, name)),
      make("td", { className: "bar" }, draw("svg", { "aria-hidden": "true" },
        draw("rect", { class: `k ${style}`, width: `${(100 * share).toFixed(1)}%`, height: "100%" }))),
      make("td", { className: "number" }, `${Math.round(100 * share)}%`),
      make("td", { className: "number faint" }, number(count)))) : [make("tr", {}, make("td", { className: "faint" }, empty))])));
}

function drawCharts(recording) {
  const all = recording.utterances, n = all.length;
  const line = (name, style, count) => [name, style, count, count / n];
  const flags = new Map();
  for (const u of all) for (const flag of u.flags) flags.set(flag, (flags.get(flag) ?? 0) + 1);
  const count = (is) => all.reduce((sum, u) => sum + (is(u) ? 1 : 0), 0);
  recording.element.querySelector(".charts").replaceChildren(
    chart("Emotion", data.labels.map((name, label) => line(name, styleOf(label), count((u) => labelOf(u) === label)))),
    chart("Sentiment", data.sentiments.map((name, place) => line(name, `s-${name}`, count((u) => u.sentiment === place)))),
    make("div", {},
      chart("Modalities used", MODALITIES.map((name, bit) => line(name, "ink", count((u) => u.used & (1 << bit))))),
      chart("Quality flags", [...flags].sort((a, b) => b[1] - a[1]).slice(0, 30).map(([flag, c]) => line(flag, "ink", c)),
        "No utterance is flagged.")));
}

/** Emotion over time, a line a speaker: the probabilities of each span of time, weighted by how long is spoken. */
function drawMoods(recording) {
  const { names, laneOf } = recording.lanes, span = Math.max(recording.until, 0.1) / SPANS;
  const sums = names.map(() => Array.from({ length: SPANS }, () => new Float64Array(data.labels.length)));
  for (const u of recording.utterances) {
    const first = Math.floor(u.start / span), last = Math.min(Math.floor(u.end / span), SPANS - 1);
    for (let s = first; s <= last; s += 1) {
      const long = Math.min(u.end, (s + 1) * span) - Math.max(u.start, s * span);
      u.probabilities.forEach((p, label) => { sums[laneOf(u)][s][label] += p * Math.max(long, 0); });
    }
  }
  const lines = names.flatMap((name, lane) => {
    const svg = draw("svg", { class: "mood", viewBox: `0 0 ${SPANS} 1`, preserveAspectRatio: "none", role: "img", "aria-label": `Emotion over time of ${name}` });
    sums[lane].forEach((shares, s) => {
      const whole = shares.reduce((a, b) => a + b, 0);
      if (!whole) return;
      const group = draw("g"), best = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 3);
      let top = 0;
      for (const [label, share] of shares.entries()) {
        if (share / whole < 0.005) continue;
        group.append(draw("rect", { class: `k ${styleOf(label)}`, x: s, y: top, width: 1, height: share / whole }));
        top += share / whole;
      }
      const title = draw("title");
      title.textContent = `${clock(s * span, 0)} – ${clock((s + 1) * span, 0)}: `
        + best.map((label) => `${nameOf(label)} ${Math.round((100 * shares[label]) / whole)}%`).join(", ");
      group.append(title);
      svg.append(group);
    });
    return [make("div", { title: name, dir: "auto" }, name), svg];
  });
  recording.element.querySelector(".over-time").replaceChildren(
    make("p", { className: "caption" }, "Emotion over time: shares of the probabilities, by speaker"),
    make("div", { className: "moods" }, ...lines));
}
