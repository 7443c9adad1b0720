// ---- the form, opening, printing ---------------------------------------------------------------------------

let waiting = 0;
function soon() { clearTimeout(waiting); waiting = setTimeout(apply, 150); }
for (const name of ["text", "file", "speaker"]) {
  id(`by-${name}`).addEventListener("input", (event) => {
    filter[name] = fold(event.target.value.trim());
    soon();
  });
}
for (const name of ["least", "most"]) {
  id(`by-${name}`).addEventListener("input", (event) => {
    const asked = event.target.valueAsNumber;
    filter[name] = Number.isNaN(asked) ? NO_FILTER[name] : asked;
    soon();
  });
}
for (const name of ["plausible", "flag", "sentiment", "agree", "state", "sort"]) {
  id(`by-${name}`).addEventListener("change", (event) => { filter[name] = event.target.value; apply(); });
}
id("by-plausible").append(...data.labels.map((name, label) => make("option", { value: String(label) }, `includes ${name}`)));
const chips = [...document.querySelectorAll(".legend .chip")];
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
  const start = form.querySelector("#by-sort option[selected]")?.value ?? "time";
  Object.assign(filter, NO_FILTER, { emotions: new Set(), sort: start });
  for (const chip of chips) chip.setAttribute("aria-pressed", "false");
  soon();
});
id("clear").addEventListener("click", () => form.reset());
const setAll = (open) => () => { for (const r of shown.slice(0, listed)) if (r.element) r.element.open = open; };
id("open-all").addEventListener("click", setAll(true));
id("close-all").addEventListener("click", setAll(false));

let resized = 0;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => recordings.filter((r) => r.track).forEach((r) => {
    if (r.element.open && r.element.offsetParent) drawTimeline(r);
    else { r.track = null; r.stale = true; } // drawn anew when it is seen again
  }), 150);
});
const opened = () => recordings.filter((r) => r.element?.open && r.element.offsetParent && r.utterances);
addEventListener("beforeprint", () => {
  for (const recording of opened()) {
    addSome(recording, recording.matching.length);
    drawTimeline(recording, 560); // pixels that fit beside the names on A4 and Letter
  }
});
addEventListener("afterprint", () => opened().forEach((recording) => drawTimeline(recording)));

const inPage = id("bodies");
if (inPage) take(inPage.textContent);
restore();
buildDock();
id("files").append(...recordings.slice(0, 2000).map((r) => make("option", { value: r.file })));
if (allLoaded()) fillNames();
if (data.review) {
  id("by-sort").prepend(make("option", { value: "review", selected: true }, data.review_name));
  id("by-sort").querySelector("option").setAttribute("selected", "");
  filter.sort = "review";
}
form.hidden = false;
if (fixes.size + names.size) { id("dock").hidden = false; document.body.classList.add("docked"); showProgress(); }
shown = recordings;
list();
if (recordings.length <= 3 || filter.sort === "time") recordings.slice(0, recordings.length <= 3 ? 3 : 1).forEach((r) => { r.element.open = true; });
apply();
