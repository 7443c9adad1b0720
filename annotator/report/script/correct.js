// ---- corrections: kept in the browser, saved as a table that `annotate prepare table` reads ------------

const KEPT = `annotate ${data.key}`;
let fixes = new Map(); // key of an utterance -> {label, speaker, text, status}
let names = new Map(); // `recording:speaker` -> another name
const earlier = []; // what was before each step: [utterance, fixes, names]
let keeps = true; // whether this browser keeps anything for the page
let saved = true;

const fixOf = (u) => fixes.get(u.key);
const labelOf = (u) => fixOf(u)?.label ?? u.emotion;
const statusOf = (u) => fixOf(u)?.status ?? "";
const renamed = (u) => fixOf(u)?.speaker ?? names.get(`${u.recording.place}:${u.speaker}`);
const whoOf = (u) => renamed(u) ?? u.recording.speakers[u.speaker];
const textOf = (u) => fixOf(u)?.text ?? u.text;

function restore() {
  try {
    localStorage.setItem("annotate", "1");
    localStorage.removeItem("annotate");
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "null");
    if (kept) { fixes = new Map(kept.fixes); names = new Map(kept.names); }
  } catch {
    keeps = false;
  }
}

function keep() {
  saved = false;
  try {
    localStorage.setItem(KEPT, JSON.stringify({ fixes: [...fixes], names: [...names] }));
  } catch {
    keeps = false;
  }
  showProgress();
}

addEventListener("beforeunload", (event) => { if (!keeps && !saved) event.preventDefault(); });

/** Change what is known of an utterance; a value of undefined takes a correction back. */
function fix(u, change) {
  if (u.cut) {
    id("progress").textContent = "Its text is too long for this page: correct it in the table.";
    return false;
  }
  earlier.push([u, new Map(fixes), new Map(names)]);
  if (earlier.length > 200) earlier.shift();
  const whole = Object.fromEntries(Object.entries({ ...fixOf(u), ...change }).filter(([, v]) => v !== undefined));
  if (Object.keys(whole).length) fixes.set(u.key, whole); else fixes.delete(u.key);
  keep();
  redraw(u);
  if (u === now) showInDock(u);
  return true;
}

function judge(u, label) {
  if (fix(u, label === u.emotion ? { label: undefined, status: "accepted" } : { label, status: "relabelled" })) onward();
}

function setUnusable(u) {
  const unusable = statusOf(u) !== "unusable";
  if (fix(u, { label: undefined, status: unusable ? "unusable" : undefined }) && unusable) onward();
}

function onward() {
  if (id("onward").checked) step(1);
}

/** Another speaker's name: of one utterance, or wherever the recording has this one. A known name merges. */
function setSpeaker(u, name, everywhere) {
  if (!name || name === whoOf(u)) return;
  if (!everywhere) {
    fix(u, { speaker: name });
  } else {
    earlier.push([u, new Map(fixes), new Map(names)]);
    const old = whoOf(u), place = u.recording.place;
    for (const [speaker, shownName] of u.recording.speakers.entries()) {
      if ((names.get(`${place}:${speaker}`) ?? shownName) === old) names.set(`${place}:${speaker}`, name);
    }
    for (const [key, one] of fixes) {
      if (key.startsWith(`${place}:`) && one.speaker === old) fixes.set(key, { ...one, speaker: name });
    }
    keep();
  }
  redrawRecording(u.recording);
}

function redrawRecording(recording) {
  recording.track = null;
  recording.stale = true;
  if (recording.element) refresh(recording);
  for (const u of [...flat.lines.keys()]) if (u.recording === recording) redraw(u);
  if (now?.recording === recording) { showInDock(now); intoView(now); }
}

function undo() {
  const step = earlier.pop();
  if (!step) return;
  const [u] = step;
  [, fixes, names] = step;
  keep();
  if (!u) { recordings.filter((r) => r.utterances).forEach(redrawRecording); return; }
  redrawRecording(u.recording);
  showRow(u);
  choose(u);
}

// ---- the dock: what is heard, with the keys that correct it ----------------------------------------------

function showInDock(u) {
  id("dock").hidden = false;
  document.body.classList.add("docked");
  closeForm();
  id("dock-where").replaceChildren(make("bdi", { className: "name" }, u.recording.file),
    ` · ${clock(u.start)} – ${clock(u.end)} · `, make("bdi", {}, whoOf(u)));
  id("dock-text").replaceChildren(...saying(u, true));
  const label = labelOf(u), status = statusOf(u), judged = status === "accepted" || status === "relabelled";
  for (const button of id("dock-labels").children) {
    const own = Number(button.dataset.label);
    button.setAttribute("aria-pressed", String(judged && own === label));
    button.classList.toggle("model", own === u.emotion);
    button.querySelector(".number").textContent = `${u.probabilities[own]}%`;
  }
  id("unusable").setAttribute("aria-pressed", String(status === "unusable"));
  showProgress();
}

function showProgress() {
  const all = [...fixes.values()], count = (status) => all.filter((one) => one.status === status).length;
  const some = fixes.size + names.size > 0;
  const told = some
    ? `${number(count("accepted") + count("relabelled"))} judged, ${number(count("relabelled"))} of them relabelled, ${number(count("unusable"))} unusable.`
    : "Nothing corrected yet.";
  id("progress").textContent = `${told} ${keeps ? (some ? "Kept in this browser." : "")
    : "This browser keeps nothing for this page: save before you close it."}`;
  id("save").disabled = !some;
}

function buildDock() {
  id("dock-labels").append(...data.labels.map((name, label) => make("button",
    { type: "button", className: "chip", "data-label": label, "aria-pressed": "false", onclick: () => judge(now, label) },
    swatch(styleOf(label)), make("bdi", {}, name), make("span", { className: "number faint" }),
    label < 9 ? make("kbd", {}, String(label + 1)) : null)));
  const press = { accept: "a", unusable: "x", words: "e", speaker: "s", undo: "z" };
  for (const [name, key] of Object.entries(press)) id(name).addEventListener("click", () => correctBy(key));
  id("before").addEventListener("click", () => step(-1));
  id("after").addEventListener("click", () => step(1));
  id("save").addEventListener("click", save);
  id("load").addEventListener("click", () => id("load-file").click());
  id("load-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) await loadCorrections(await file.text());
    event.target.value = "";
  });
  id("dock-close").addEventListener("click", () => {
    media.pause();
    id("dock").hidden = true;
    document.body.classList.remove("docked");
    // Where one was: the keyboard goes on from there.
    (rowOf(now)?.querySelector("button") ?? id("recordings")).focus({ preventScroll: true });
  });
  id("each").checked = id("onward").checked = !!data.review;
}

/** Do what a key stands for; false where it stands for nothing. */
function correctBy(key) {
  if (key === "z") { undo(); return true; }
  if (!now || id("dock").hidden) return false;
  if (/^[1-9]$/.test(key) && Number(key) <= data.labels.length) judge(now, Number(key) - 1);
  else if (key === "a") judge(now, now.emotion);
  else if (key === "x") setUnusable(now);
  else if (key === "e") editWords(now);
  else if (key === "s") editSpeaker(now);
  else return false;
  return true;
}

function closeForm() {
  if (id("dock-form").contains(document.activeElement)) id("dock").focus({ preventScroll: true });
  id("dock-form").hidden = true;
  id("dock-text").hidden = false;
}

function openForm(onSave, ...fields) {
  const form = id("dock-form");
  form.replaceChildren(...fields,
    make("button", { type: "submit" }, "Keep"),
    make("button", { type: "button", onclick: closeForm }, "Cancel"));
  form.onsubmit = (event) => { event.preventDefault(); closeForm(); onSave(); };
  form.onkeydown = (event) => {
    if (event.key === "Escape") closeForm();
    if (event.key === "Enter" && event.target.matches("textarea") && !event.shiftKey) { event.preventDefault(); form.requestSubmit(); }
  };
  form.hidden = false;
  fields[0].focus();
}

function editWords(u) {
  const area = make("textarea", { rows: 2, value: fixOf(u)?.text ?? u.raw ?? u.text ?? "", dir: "auto", "aria-label": "What is said", spellcheck: true });
  id("dock-text").hidden = true;
  openForm(() => {
    const text = area.value.trim();
    fix(u, { text: text === (u.raw ?? u.text ?? "").trim() ? undefined : text });
  }, area);
}

function editSpeaker(u) {
  const known = [...new Set(u.recording.utterances.map(whoOf))];
  const list = make("datalist", { id: "known" }, ...known.map((name) => make("option", { value: name })));
  const input = make("input", { value: whoOf(u), dir: "auto", "aria-label": "Speaker", autocomplete: "off" });
  input.setAttribute("list", "known");
  const where = make("select", { "aria-label": "Where" },
    make("option", { value: "" }, "in this utterance"), make("option", { value: "all" }, "in all of the recording"));
  openForm(() => setSpeaker(u, input.value.trim(), where.value === "all"), input, list, where);
  input.select();
}
