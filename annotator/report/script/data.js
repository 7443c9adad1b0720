// ---- recordings and utterances: those in the page at once, those in parts when they are wanted ---------

const NAMES = ["start", "end", "speaker", "text", "emotion", "confidence", "probabilities", "sentiment",
  "sentimentProbability", "used", "flags", "conversation", "plausible", "alone", "words", "raw"];

const recordings = data.recordings.map((source, place) => ({
  place, file: source.file, path: source.path ?? source.file, folded: fold(source.file), media: source.media ?? null,
  people: source.people, count: source.utterances, until: source.until, emotions: source.emotions,
  utterances: null, matching: null, element: null, track: null, zoom: 1, rows: 0, stale: true,
  blocks: new Map(), lines: new Map(),
}));

function utterance(recording, row, index, body) {
  const u = { recording, index, key: `${recording.place}:${index}` };
  NAMES.forEach((name, column) => { u[name] = row[column]; });
  u.flags = u.flags.map((flag) => body.flags[flag]);
  // Shown cut: it is longer than a page shows, and the table's own text is not here.
  u.cut = row.length === NAMES.length && u.raw === null;
  const sorted = u.probabilities.slice().sort((a, b) => b - a);
  u.margin = sorted[0] - (sorted[1] ?? 0);
  return u;
}

function take(text) {
  const { first, bodies } = JSON.parse(text);
  bodies.forEach((body, offset) => {
    const recording = recordings[first + offset];
    recording.speakers = body.speakers;
    recording.ownNames = body.speakers.map((name, place) => body.raw?.[place] ?? name);
    recording.utterances = body.rows.map((row, index) => utterance(recording, row, index, body));
    recording.matching = recording.utterances;
  });
}

const frames = new Map(); // window of a part -> what to do with its text
addEventListener("message", (event) => {
  const got = frames.get(event.source);
  if (got && typeof event.data === "string") got(event.data);
});

const parts = [];
function loadPart(place) {
  parts[place] ??= new Promise((resolve, reject) => {
    const frame = make("iframe", { hidden: true, title: "part", src: data.parts[place] });
    const end = (then) => { frames.delete(frame.contentWindow); frame.remove(); then(); };
    frame.addEventListener("load", () => setTimeout(() => {
      if (frame.isConnected) end(() => reject(new Error(data.parts[place])));
    }, 3000));
    document.body.append(frame);
    frames.set(frame.contentWindow, (text) => { take(text); end(resolve); });
  });
  return parts[place];
}

/** See that a recording's utterances are here. */
async function load(recording) {
  if (recording.utterances) return;
  try {
    await loadPart(data.starts.findLastIndex((first) => first <= recording.place));
  } catch (error) {
    id("missing").hidden = false;
    id("missing").textContent = `${error.message} is missing: keep the folder of the parts beside this page.`;
    throw error;
  }
}

const allLoaded = () => recordings.every((recording) => recording.utterances);

const modalitiesAgree = (u, among = [0, 1, 2]) => {
  const said = among.map((bit) => u.alone[bit]).filter((one) => one);
  return said.length < 2 ? null : said.every((one) => one[0] === said[0][0]);
};
