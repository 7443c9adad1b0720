"""Recognition by a tiny Whisper made here: words, times, guards, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from annotator import transcribe
from annotator.records import (
    Audio,
    SetupError,
    Transcript,
    Turn,
    UsageError,
)
from annotator.transcribe import TranscriberSettings, make_transcriber
from annotator.transcribe.alignment import warp
from tests.tiny_models import make_whisper
from tests.transcripts import is_sound, media, no_streams


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("whisper"))


def noise(seconds: float) -> Audio:
    samples = np.random.default_rng(0).normal(0, 3000, round(seconds * 16_000))
    return Audio(samples.astype(np.int16))


def test_whisper_hears_the_speech_of_the_turns(tiny_whisper: Path, tmp_path: Path) -> None:
    settings = TranscriberSettings(
        no_streams, device="cpu", whisper_folder=tiny_whisper, offline=True, batch_size=2
    )
    assert transcribe.available("whisper", settings) is None
    whisper = make_transcriber("whisper", settings)
    turns = [Turn(1.0, 3.0, "B"), Turn(3.5, 6.0, "A"), Turn(15.0, 18.0, "A"), Turn(30.0, 34.0, "A")]
    # The path leads nowhere: the sound is all that recognition may use.
    found = whisper(media(tmp_path / "nowhere.mp4"), noise(40.0), turns)
    assert (found.source, found.language) == ("whisper", "en")
    assert [w.text for w in found.words] == ["Hello", "there.", "Größe!"] * 3
    assert is_sound(found)
    for i, (start, end) in enumerate([(0.8, 6.2), (14.8, 18.2), (29.8, 34.2)]):
        assert all(start <= w.start <= w.end <= end for w in found.words[3 * i : 3 * i + 3])
    assert all(w.confidence is not None and w.confidence > 0.9 for w in found.words)
    assert [w.cue for w in found.words[:3]] == [0, 0, 1]
    assert whisper(media(tmp_path / "nowhere.mp4"), noise(40.0), turns) == found


def test_whisper_without_sound_or_speech_gives_nothing(tiny_whisper: Path, tmp_path: Path) -> None:
    settings = TranscriberSettings(no_streams, device="cpu", whisper_folder=tiny_whisper, language="en")
    whisper = make_transcriber("whisper", settings)
    assert whisper(media(tmp_path / "x.mp4"), None, [Turn(0, 1, "A")]) == Transcript()
    assert whisper(media(tmp_path / "x.mp4"), noise(2.0), []) == Transcript()
    found = whisper(media(tmp_path / "x.mp4"), noise(0.2), [Turn(0, 0.1, "A")])
    assert all(w.end <= 0.2 for w in found.words)
    french = TranscriberSettings(no_streams, device="cpu", whisper_folder=tiny_whisper, language="fr")
    with pytest.raises(UsageError, match="'fr'"):
        make_transcriber("whisper", french)


def test_weights_other_than_safetensors_are_refused(tiny_whisper: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    for file in tiny_whisper.iterdir():
        target = "pytorch_model.bin" if file.suffix == ".safetensors" else file.name
        (tmp_path / target).write_bytes(file.read_bytes())
    settings = TranscriberSettings(no_streams, device="cpu", whisper_folder=tmp_path, offline=True)
    with pytest.raises(SetupError, match=r"lacks model\.safetensors"):
        make_transcriber("whisper", settings)
    (tmp_path / "model.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(SetupError, match="no Whisper that can be loaded"):
        make_transcriber("whisper", settings)
    save_file({"other": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(SetupError, match="weights of another model"):
        make_transcriber("whisper", settings)


def test_stretches_are_cut_where_it_is_quiet() -> None:
    from annotator.transcribe.whisper import stretches

    audio = noise(80.0)
    audio.samples[25 * 16_000 : round(25.3 * 16_000)] = 0
    found = stretches([Turn(0.0, 40.0, "A"), Turn(41.0, 50.0, "B"), Turn(60.0, 61.0, "A")], audio)
    assert found[0][0] == 0.0
    assert 25.0 <= found[0][1] <= 25.3
    assert found[-1] == (59.8, 61.2)
    assert all(end - start <= 30.0 for start, end in found)
    assert sum(end - start for start, end in found) == pytest.approx(40.2 + 9.4 + 1.4)


def test_guards_against_invented_text() -> None:
    from annotator.transcribe.whisper import _Said, sensible

    def pieces(text: str) -> list[tuple[str, float, float, float]]:
        return [(f" {word}", i * 0.5, i * 0.5 + 0.5, 0.5) for i, word in enumerate(text.split())]

    fine = pieces("no no no that is quite enough of it")
    assert sensible(_Said(fine, 0.9, -0.2)) == (fine, False)
    assert sensible(_Said(fine, 0.9, -1.5)) == ([], False)
    kept, looped = sensible(_Said(pieces("well " + "thank you for watching " * 12 + "thank you"), 0.0, -0.2))
    assert looped
    assert "".join(p[0] for p in kept) == " well thank you for watching"


def test_warping_finds_the_path_of_least_cost() -> None:
    """Against the plain double loop over all cells."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        cost = rng.normal(size=(rng.integers(1, 8), rng.integers(1, 30)))
        n, m = cost.shape
        total = np.full((n + 1, m + 1), np.inf)
        total[0, 0] = 0.0
        for i in range(n):
            for j in range(m):
                total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
        first = warp(cost)
        assert first[0] == 0
        assert (np.diff(first) >= 0).all()

        def least(i: int, j: int, cost: NDArray[Any] = cost, first: NDArray[Any] = first) -> float:
            """The cheapest path that begins its rows at ``first``."""
            n, m = cost.shape
            stop = first[i + 1] if i + 1 < n else m - 1
            # A row ends where the next begins, or one before.
            ends = [stop] if i + 1 == n else [e for e in (stop - 1, stop) if e >= j]
            rest = 0.0 if i + 1 == n else least(i + 1, int(first[i + 1]))
            return min(float(cost[i, j : e + 1].sum()) for e in ends) + rest

        assert least(0, 0) == pytest.approx(total[n, m])
