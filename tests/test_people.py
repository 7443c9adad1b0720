"""``--link-speakers``: one name for one person in all recordings, the same from shards as from one run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from annotator import RunSettings, run
from annotator.diarize.networks import EMBEDDING
from annotator.pipeline import merge_work_folders
from annotator.pipeline.people import VOICE, linked, packed, people, unpacked

from .media import write_wav


def voice(who: int, seed: int) -> NDArray[np.float32]:
    made = np.eye(VOICE, dtype=np.float32)[who] + np.random.default_rng(seed).normal(0, 0.03, VOICE)
    return np.asarray(made / np.linalg.norm(made), np.float32)


def test_people_are_numbered_by_file_and_never_two_in_one() -> None:
    files = [
        ("a", {"SPEAKER_00": voice(3, 0), "SPEAKER_01": voice(5, 1)}),
        ("b", {"SPEAKER_00": voice(5, 2), "SPEAKER_01": voice(5, 3), "Ana": voice(3, 4)}),
        ("c", {"SPEAKER_00": voice(7, 5), "SPEAKER_01": voice(3, 6)}),
    ]
    found = people(files, 0.6)
    assert found["a", "SPEAKER_00"] == 0 and found["a", "SPEAKER_01"] == 1
    assert sorted([found["b", "SPEAKER_00"], found["b", "SPEAKER_01"]]) == [1, 2]
    assert found["c", "SPEAKER_00"] == 3 and found["c", "SPEAKER_01"] == 0
    assert ("b", "Ana") not in found
    assert len(set(people(files, 1.0).values())) == 6
    assert people([], 0.6) == {}


def test_packed_voices_are_the_same_again() -> None:
    assert VOICE == EMBEDDING
    for seed in range(5):
        made = voice(2, seed)
        assert float(unpacked(packed(made)) @ made) > 0.9999


def test_only_numbered_speakers_are_renamed() -> None:
    table = pl.DataFrame({"file": ["a", "a", "b", "b"], "speaker": ["SPEAKER_00", "Ana", "SPEAKER_01", "X"]})
    voices = {
        "a": {"SPEAKER_00": voice(1, 0), "Ana": voice(2, 1)},
        "b": {"SPEAKER_01": voice(1, 2), "X": voice(1, 3)},
    }
    assert linked(table, voices, 0.6)["speaker"].to_list() == ["PERSON_00", "Ana", "PERSON_00", "X"]
    assert_frame_equal(linked(table, {"a": {}, "b": {}}, 0.6), table)


@pytest.mark.slow
def test_people_across_recordings_and_shards(shared: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "talks"
    folder.mkdir()
    rng = np.random.default_rng(0)
    # Each pair of actors in an order of its own; each recording has other sentences.
    casts = {"one.wav": (17, 18), "two.wav": (18, 19), "three.wav": (19, 17)}
    for number, (name, cast) in enumerate(casts.items()):
        sound, lines = [np.zeros(8000)], []
        for turn in range(10):
            files = sorted((shared / "speech" / "ravdess").glob(f"*-{cast[turn % 2]}.flac"))
            chosen = files[number::3]  # all moods in each
            said, _ = soundfile.read(chosen[int(rng.integers(len(chosen)))])
            said = said[10_000:-10_000] / np.abs(said).max() * 0.5
            start = sum(map(len, sound)) / 16_000
            speaker = f"SPEAKER_{turn % 2:02d}"
            lines.append(f"SPEAKER x 1 {start:.3f} {len(said) / 16_000:.3f} <NA> <NA> {speaker} <NA> <NA>")
            sound += [said, np.zeros(8000)]
        write_wav(folder / name, np.concatenate(sound))
        (folder / name).with_suffix(".rttm").write_text("\n".join(lines) + "\n")
    plain = {"workers": 1, "modalities": ("text",), "device": "cpu", "offline": True}
    settings = RunSettings(**plain, link_speakers=True)  # type: ignore[arg-type]
    whole = run([folder], tmp_path / "whole.parquet", settings, progress=False).table
    assert whole is not None
    names = {
        (file, speaker): group["speaker"].unique().to_list()
        for file, cast in casts.items()
        for speaker, group in zip(
            cast, whole.filter(file=file).sort("start").partition_by("speaker"), strict=True
        )
    }
    assert all(len(name) == 1 and name[0].startswith("PERSON_") for name in names.values())
    for actor in (17, 18, 19):
        assert len({name[0] for (_, who), name in names.items() if who == actor}) == 1
    assert whole["speaker"].n_unique() == 3
    for shard in (0, 1):
        part = RunSettings(**plain, link_speakers=True, shard=(shard, 2))  # type: ignore[arg-type]
        run([folder], tmp_path / f"s{shard}.parquet", part, progress=False)
    merged, _ = merge_work_folders(tmp_path / "merged.parquet", [tmp_path / "s0.work", tmp_path / "s1.work"])
    assert_frame_equal(merged, whole)
    # Voices stay in the parts: nothing else that a run leaves holds them.
    record = json.loads((tmp_path / "whole.run.json").read_text())
    assert all("voices" not in recording for recording in record["recordings"])
    assert not RunSettings().link_speakers, "off unless asked for"
