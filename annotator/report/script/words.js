// ---- what is said: with what is looked for, and word by word while it is heard -----------------------

function highlighted(text, looked) {
  if (!looked) return [text];
  const pieces = [], folded = fold(text);
  if (folded.length !== text.length) return [text]; // places would not agree
  let from = 0;
  for (let at = folded.indexOf(looked); at >= 0; at = folded.indexOf(looked, from)) {
    pieces.push(text.slice(from, at), make("mark", {}, text.slice(at, at + looked.length)));
    from = at + looked.length;
  }
  return [...pieces, text.slice(from)];
}

/** The words of an utterance as elements with their times, and what stands between them. */
function timedWords(u) {
  const text = u.text, words = u.words, pieces = [];
  let from = 0;
  for (let i = 0; i < words.length; i += 5) {
    const [at, length, start, end, confidence] = words.slice(i, i + 5);
    const word = make("span", { className: "word" }, text.slice(at, at + length));
    if (confidence >= 0 && confidence < 50) { word.classList.add("unsure"); word.title = `heard with ${confidence}%`; }
    word.from = u.start + start / 100;
    word.until = u.start + end / 100;
    pieces.push(text.slice(from, at), word);
    from = at + length;
  }
  return [...pieces, text.slice(from)];
}

function saying(u, timed = false) {
  const text = textOf(u);
  if (!text) return [make("span", { className: "faint" }, text === null ? "– no transcript" : "– no words")];
  return timed && u.words && text === u.text ? timedWords(u) : highlighted(text, filter.text);
}

/** Mark the word that is said at a time in an element that `timedWords` filled. */
function markWord(element, seconds) {
  for (const word of element.querySelectorAll(".word")) {
    word.classList.toggle("said", word.from <= seconds && seconds < word.until);
  }
}
