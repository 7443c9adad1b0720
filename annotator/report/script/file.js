// ---- corrections as a file: saved, and loaded again ------------------------------------------------------

// A cell that a spreadsheet would run begins with an apostrophe; `annotate` takes it off again.
const harmless = (text) => text.replace(/(^|[;\t\r\n])('*[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'$2").replace(/^('*[\t\r\n])/, "'$1");
const cell = (text) => {
  const whole = harmless(text);
  return /[",\r\n;\t]|^\s|\s$/.test(whole) ? `"${whole.replaceAll('"', '""')}"` : whole;
};

/** A speaker's name as the table writes it, which may hold what is shown otherwise. */
function ownName(u) {
  const { speakers, ownNames } = u.recording, name = renamed(u), known = speakers.indexOf(name);
  return name === undefined ? ownNames[u.speaker] : known >= 0 ? ownNames[known] : name;
}

/** Recordings with a correction: all their rows, because neighbours are read too. A label only where judged. */
function corrected(touched) {
  const head = ["file", "dialogue_id", "start", "end", "speaker", "text", "emotion", "status", ...data.names.map((n) => `p_${n}`)];
  const lines = [head.map(cell).join(",")];
  for (const recording of touched) {
    for (const u of recording.utterances.filter((each) => !each.cut)) {
      const one = fixOf(u), judged = one?.status === "accepted" || one?.status === "relabelled";
      lines.push([
        cell(recording.path), u.conversation, u.start, u.end,
        cell(ownName(u)),
        cell(one?.text ?? u.raw ?? u.text ?? ""),
        judged ? cell(data.names[labelOf(u)]) : "", one?.status ?? "",
        ...u.probabilities.map((p) => p / 100),
      ].join(","));
    }
  }
  return `${lines.join("\n")}\n`;
}

async function save() {
  const places = new Set([...fixes.keys(), ...names.keys()].map((key) => Number(key.split(":")[0])));
  const touched = recordings.filter((recording) => places.has(recording.place));
  await Promise.all(touched.map(load));
  const link = make("a", { download: "corrections.csv", href: URL.createObjectURL(new Blob([corrected(touched)], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  saved = true;
  const twice = touched.reduce((sum, recording) => sum + overlaps(recording), 0);
  const talks = new Set(touched.flatMap((r) => r.utterances.map((u) => `${r.place}:${u.conversation}`))).size;
  id("progress").textContent = `Saved: ${plural(touched.length, "recording")} with ${plural(talks, "conversation")}.`
    + (talks < 3 ? " Training needs three conversations or more: correct in others too." : "")
    + (twice ? ` ${plural(twice, "utterance")} of a speaker overlap: \`annotate prepare\` leaves them out with --skip-faulty.` : "");
}

/** How many utterances begin before their speaker's last one has ended, as when two people became one. */
function overlaps(recording) {
  const ends = new Map();
  let found = 0;
  for (const u of recording.utterances) {
    const who = whoOf(u), end = ends.get(who) ?? 0;
    if (u.start < end - 0.1) found += 1;
    ends.set(who, Math.max(end, u.end));
  }
  return found;
}

const unharmed = (text) => text.replace(/^'('*[\t\r\n])/, "$1").replace(/(^|[;\t\r\n])'('*[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1$2");

/** The cells of a CSV text, row by row. */
function cells(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end !== ",") rows.push([]);
  }
  return rows.filter((row) => row.length > 1);
}

/** Take over what a file of corrections says of this table's utterances; it counts before what is here. */
async function loadCorrections(text) {
  const [head = [], ...lines] = cells(text.replace(/^\ufeff/, ""));
  const columns = Object.fromEntries(head.map((name, place) => [name, place]));
  const lacks = ["file", "start", "end", "speaker", "text", "emotion", "status"].filter((name) => !(name in columns));
  if (lacks.length) {
    id("progress").textContent = `This is no file of corrections: it lacks ${lacks.join(", ")}.`;
    return;
  }
  const byPath = new Map(recordings.map((recording) => [recording.path, recording]));
  const byTime = new Map(), touched = new Set();
  earlier.push([now, new Map(fixes), new Map(names)]);
  let strange = 0;
  for (const line of lines) {
    const get = (name) => unharmed(line[columns[name]] ?? ""), recording = byPath.get(get("file"));
    if (recording && !touched.has(recording)) {
      await load(recording);
      touched.add(recording);
      for (const u of recording.utterances) {
        const key = `${recording.place} ${u.start} ${u.end}`;
        byTime.set(key, [...(byTime.get(key) ?? []), u]);
        fixes.delete(u.key);
      }
      for (const key of [...names.keys()]) if (key.startsWith(`${recording.place}:`)) names.delete(key);
    }
    const u = recording && byTime.get(`${recording.place} ${Number(get("start"))} ${Number(get("end"))}`)?.shift();
    const label = data.names.indexOf(get("emotion")), status = get("status");
    if (!u || (get("emotion") && label < 0)) { strange += 1; continue; }
    const one = {};
    if (status) one.status = status === "unusable" ? status : label === u.emotion ? "accepted" : "relabelled";
    if (label >= 0 && label !== u.emotion) one.label = label;
    if (get("speaker") !== ownName(u)) one.speaker = get("speaker");
    if (get("text").trim() !== (u.raw ?? u.text ?? "").trim()) one.text = get("text");
    if (Object.keys(one).length) fixes.set(u.key, one);
  }
  keep();
  for (const recording of touched) redrawRecording(recording);
  id("progress").textContent += strange ? ` ${plural(strange, "row")} of the file are not of this table.` : " Loaded.";
}
