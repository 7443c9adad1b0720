// ---- sound and picture -------------------------------------------------------------------------------

const media = id("media");
const AT_ONCE = 0.05; // seconds: a browser's time may be a little before the one it was set to
let now = null; // the utterance that is chosen
let playing = null; // the recording that the player holds
let wanted = null; // where to go once the recording is open
let stopAt = null;

function hold(recording) {
  if (playing === recording) return;
  playing = recording;
  wanted = null;
  media.pause();
  id("unheard").textContent = recording.media ? "" : "The recording does not lie beside this page. The command annotate report finds it with --media-base FOLDER.";
  media.hidden = !recording.media;
  media.classList.remove("seen");
  if (recording.media) media.src = recording.media;
  else { media.removeAttribute("src"); media.load(); }
}

function seek(seconds) {
  if (!playing?.media) return;
  if (media.readyState >= 1) media.currentTime = seconds; else wanted = seconds;
}

media.addEventListener("loadedmetadata", () => {
  media.classList.toggle("seen", media.videoWidth > 0);
  if (wanted !== null) media.currentTime = wanted;
  wanted = null;
});
media.addEventListener("error", () => {
  if (!playing?.media) return;
  media.hidden = true;
  id("unheard").textContent = `This browser can't play ${playing.file}.`;
});

function play() {
  // It may be stopped before it has begun; what else goes wrong is told by "error".
  if (playing?.media) media.play().catch(() => {});
}

function playOrPause() {
  stopAt = null;
  if (media.paused) play(); else media.pause();
}

/** The utterance at a time: the one that is chosen if it is heard then, else the one that began last. */
function heardAt(recording, seconds) {
  if (now?.recording === recording && now.start - AT_ONCE <= seconds && seconds < now.end) return now;
  const all = recording.utterances;
  let low = 0, high = all.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle].start <= seconds) low = middle + 1; else high = middle;
  }
  for (let i = low - 1; i >= 0 && i >= low - 8; i -= 1) if (seconds < all[i].end) return all[i];
  return null;
}

function follow() {
  if (!playing?.utterances || !playing.media) return;
  const seconds = media.currentTime;
  if (stopAt !== null && seconds >= stopAt) { media.pause(); stopAt = null; return; }
  const heard = heardAt(playing, seconds);
  if (heard && heard !== now) choose(heard, { jump: false });
  markWord(id("dock-text"), seconds);
  const row = now && rowOf(now);
  if (row) markWord(row, seconds);
}

function everyFrame() {
  follow();
  if (!media.paused) requestAnimationFrame(everyFrame);
}
media.addEventListener("play", everyFrame);
media.addEventListener("seeked", () => { if (media.paused) follow(); });

/**
 * Make an utterance the one that is heard, shown and corrected.
 * jump: go to its start, and with "each" play it; off while the player is followed.
 */
function choose(u, { jump = true } = {}) {
  const before = now;
  now = u;
  for (const one of [before, u]) if (one && one.recording.element) mark(one);
  hold(u.recording);
  showInDock(u);
  if (jump) {
    seek(u.start);
    stopAt = null;
    if (id("each").checked) { stopAt = u.end; play(); }
  }
  intoView(u);
}

function mark(u) {
  const chosen = u === now;
  u.recording.blocks.get(u)?.classList.toggle("now", chosen);
  for (const lines of [u.recording.lines, flat.lines]) {
    const row = lines.get(u);
    if (!row) continue;
    row.classList.toggle("now", chosen);
    row.querySelector(".said-here").replaceChildren(...saying(u, chosen));
  }
}

const rowOf = (u) => (flat.on ? flat : u.recording).lines.get(u) ?? null;

/** Scroll lists and timelines, each within itself, so that the utterance is seen; the page stays. */
function intoView(u) {
  const row = rowOf(u), box = row?.closest(".box");
  if (box) {
    const r = row.getBoundingClientRect(), b = box.getBoundingClientRect();
    if (r.top < b.top + 34 || r.bottom > b.bottom) box.scrollTop += r.top - b.top - b.height / 3;
  }
  const block = u.recording.blocks.get(u), track = u.recording.track;
  if (block && track) {
    const r = block.getBoundingClientRect(), b = track.getBoundingClientRect();
    if (r.left < b.left || r.right > b.right) track.scrollLeft += r.left - b.left - b.width / 3;
  }
}

/** Go some utterances on (or back) in what is listed. */
function step(by) {
  const listed = flat.on ? flat.matching : (now?.recording ?? shown[0])?.matching;
  if (!listed?.length) return;
  const at = now ? listed.indexOf(now) : -1;
  const u = listed[Math.min(Math.max(at + by, 0), listed.length - 1)];
  showRow(u);
  choose(u);
  // With the keyboard one may be anywhere on the page: above the dock is what is seen.
  const row = rowOf(u)?.getBoundingClientRect();
  if (row && (row.top < 0 || row.bottom > id("dock").getBoundingClientRect().top)) rowOf(u).scrollIntoView({ block: "start" });
}

const writing = (element) => element.matches("input, textarea, select");

addEventListener("keydown", (event) => {
  const target = event.target, key = event.key;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !(target instanceof Element)) return;
  if (writing(target) && target.type !== "checkbox") return;
  if (target === media && (key === " " || key.startsWith("Arrow"))) return; // it does so itself
  if (key === " " && target.matches("button:not(.time), summary, a, input")) return;
  if (key === " ") playOrPause();
  else if (key === "j" || key === "k") step(key === "j" ? 1 : -1);
  else if ((key === "ArrowDown" || key === "ArrowUp") && now && target.closest(".box")) step(key === "ArrowDown" ? 1 : -1);
  else if ((key === "ArrowRight" || key === "ArrowLeft") && playing?.media) {
    stopAt = null;
    seek(Math.max(0, media.currentTime + (key === "ArrowRight" ? 2 : -2)));
  } else if (!correctBy(key)) return;
  event.preventDefault();
});
