"""Features of labelled utterances from their recordings, by the very stages and workers of a run.

A recording is decoded once, faces are followed through all of it, and its utterances are encoded
together, as `annotate run` does: the same utterances get the same features to the bit. What is finished is
kept (``CORPUS.work``) under a key of the content and of all that shapes the features, so that an
interrupted or repeated preparation does nothing twice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotator import media, threads, transcribe, whisper_files
from annotator.encode import make_encoder
from annotator.pipeline.batch import choose, choose_face_detector
from annotator.pipeline.prepared import Prepared
from annotator.pipeline.shaping import shaped_by
from annotator.pipeline.stages import (
    Backends,
    Task,
    WorkerSetup,
    make_worker,
    reading_limit_s,
    transcriber_settings,
)
from annotator.pipeline.workdir import WorkDir, hash_json
from annotator.pipeline.workers import WorkerPool
from annotator.records import MODALITIES, Evidence, Features, RecordingError, SetupError, Utterance
from annotator.settings import RunSettings
from train.prepare import encode_text
from train.prepare.source import Recordings

log = logging.getLogger("annotator")

# A clip that is longer by both is not of its utterance alone: some of MELD's hold minutes of an episode.
MOST_TIMES, MORE_S = 3.0, 5.0


@dataclass(frozen=True)
class Encoded:
    """What recordings gave for the rows of a table."""

    text: list[str | None]  # the table's, else what was recognised
    text_source: list[str | None]  # corpus, or where recognised text comes from; None without text
    features: dict[str, Features]
    fingerprints: dict[str, str]  # of the encoders
    problems: list[tuple[int, str]]  # row of the table (from 0) without voice and face, and why


@dataclass
class _Part:
    """The rows of one recording."""

    name: str
    path: Path
    rows: list[int]
    given: tuple[Utterance, ...]
    stated_s: float | None = None  # how long a recording that is one utterance is said to be
    key: str = ""
    stamps: Mapping[Path, Sequence[int]] = field(default_factory=dict)  # when it was hashed, see media.stamps

    def check_length(self, duration_s: float | None) -> None:
        """Raises: RecordingError for a clip that is several times as long as its utterance."""
        if duration_s is None or self.stated_s is None:
            return
        if duration_s > max(MOST_TIMES * self.stated_s, self.stated_s + MORE_S):
            raise RecordingError(
                "probe",
                "wrong_length",
                f"it lasts {duration_s:.1f} s, its utterance {self.stated_s:.1f} s: it holds something else",
            )


def encode_recordings(
    table: pl.DataFrame,
    recordings: Recordings,
    encoders: Mapping[str, Mapping[str, Any]],
    folder: Path,
    work: Path,
    settings: RunSettings,
    device: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> Encoded:
    """Text, features and problems of the rows of ``table``.

    Args:
        table: a corpus' rows with the column ``recording``, null where there is none.
        encoders: by modality, as the checkpoint in ``folder`` names them.
        work: the folder where finished recordings are kept.
        settings: how to recognise text that is missing; the rest as in a run.

    Raises:
        UsageError, SetupError: of the encoders and the transcriber.
    """
    parts = _parts(table, recordings)
    # The words of single clips are read as a dialogue, below, as an encoder with context wants them.
    here = {m: spec for m, spec in encoders.items() if m != "text" or not recordings.whole}
    backends = _backends(settings, device, any(u.text is None for p in parts for u in p.given))
    failed: dict[str, str] = {}
    place = WorkDir(work)
    with place.locked():
        _set_keys(parts, place, shaped_by(settings, backends, here, folder), failed)
        # Threads are shared out once the number of workers is known.
        setup = WorkerSetup(settings, backends, here, folder, place.scratch, threads=1)
        _prepare(parts, recordings, place, setup, failed, on_progress)
        encoded = _gathered(table, parts, place, here, folder, device, failed)
    if recordings.whole and "text" in encoders and any(t is not None for t in encoded.text):
        encoder = make_encoder("text", encoders["text"], folder, device)
        rows = table.with_columns(pl.Series("text", encoded.text, pl.String))
        encoded.features["text"] = encode_text(rows, encoder, work)
        encoded.fingerprints["text"] = encoder.fingerprint
    return replace(encoded, features={m: encoded.features[m] for m in MODALITIES if m in encoded.features})


def _prepare(
    parts: Sequence[_Part],
    recordings: Recordings,
    place: WorkDir,
    setup: WorkerSetup,
    failed: dict[str, str],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Have workers prepare the recordings that are not on disk yet; those that can't be go to ``failed``."""
    todo: dict[str, list[_Part]] = {}  # recordings of one content and the same utterances share the work
    for part in parts:
        if part.name not in failed and Prepared.load(place.prepared_file(part.key)) is None:
            todo.setdefault(part.key, []).append(part)
    waiting = [copies[0] for copies in todo.values()]
    total = sum(len(part.rows) for part in parts)
    done = total - sum(len(part.rows) for copies in todo.values() for part in copies)

    def fail(key: str, error: RecordingError) -> None:
        failed.update({part.name: error.message for part in todo[key]})

    size = max(1, min(setup.settings.worker_count, len(waiting)))
    threads_each = threads.of_worker(size, setup.settings.threads)
    setup = replace(setup, threads=threads_each)
    pool = WorkerPool(size, make_worker, setup, reading_limit_s, threads_each)
    ended = False
    try:
        while waiting or pool.in_hand:
            while waiting and pool.idle:
                part = waiting.pop(0)
                try:
                    pool.submit(_task(part, recordings, place))
                except RecordingError as error:
                    fail(part.key, error)
                    done += sum(len(copy.rows) for copy in todo[part.key])
            for outcome in pool.collect(timeout_s=0.5):
                if outcome.error is not None:
                    if not isinstance(outcome.error, RecordingError):
                        raise outcome.error
                    fail(outcome.task.key, outcome.error)
                done += sum(len(copy.rows) for copy in todo[outcome.task.key])
                if on_progress is not None:
                    on_progress(done, total)
        ended = True
    finally:
        pool.close(kill=not ended)
        place.save_inputs()


def _parts(table: pl.DataFrame, recordings: Recordings) -> list[_Part]:
    """The rows by recording, in order of time, as utterances."""
    rows_by_recording: dict[str, list[int]] = {}
    columns = table.select("recording", "start", "end", "dialogue_id", "speaker", "text").to_dicts()
    for row, cells in enumerate(columns):
        if cells["recording"] is not None:
            rows_by_recording.setdefault(cells["recording"], []).append(row)
    parts = []
    for name, rows in rows_by_recording.items():
        if not recordings.whole:
            # The order of a run's utterances.
            rows.sort(key=lambda r: (columns[r]["start"], columns[r]["end"], columns[r]["speaker"]))
        dialogues: dict[str, int] = {}
        numbers: dict[int, int] = {}
        utterances = []
        for row in rows:
            cells = columns[row]
            dialogue = dialogues.setdefault(cells["dialogue_id"], len(dialogues))
            numbers[dialogue] = numbers.get(dialogue, -1) + 1
            utterances.append(
                Utterance(
                    dialogue_id=dialogue,
                    utterance_id=numbers[dialogue],
                    start=0.0 if recordings.whole else cells["start"],
                    end=math.inf if recordings.whole else cells["end"],
                    speaker=cells["speaker"],
                    overlap=0.0,
                    text=cells["text"] or None,
                )
            )
        first = columns[rows[0]]
        # A few of MELD's end before they start.
        lasts = (first["end"] or 0.0) - (first["start"] or 0.0) if recordings.whole else 0.0
        stated_s = lasts if lasts > 0 else None
        parts.append(_Part(name, recordings.paths[name], rows, tuple(utterances), stated_s))
    return parts


def _backends(settings: RunSettings, device: str, needs_text: bool) -> Backends:
    """What a run would use here; turns are known, so no diarizer is asked for."""
    transcriber = "none"
    if needs_text and settings.transcriber != "none":
        for_words = transcriber_settings(settings, device)
        transcriber = choose(
            "transcriber",
            settings.transcriber,
            ("whisper", "none"),
            list(transcribe.TRANSCRIBERS),
            lambda name: transcribe.available(name, for_words),
        )
    detector, yunet = choose_face_detector(settings)
    return Backends(
        diarizer="embedded",
        transcriber=transcriber,
        whisper=whisper_files.best(settings.whisper_folder, device) if transcriber == "whisper" else None,
        face_detector=detector,
        yunet_file=yunet,
        device=device,
        take_sidecar_turns=False,
        take_subtitles=settings.transcriber == "auto",
    )


def _set_keys(
    parts: Sequence[_Part], place: WorkDir, shape: Mapping[str, Any], failed: dict[str, str]
) -> None:
    """Name what is kept of each recording; those that can't be read go to ``failed``."""
    for part in parts:
        try:
            needs_words = any(u.text is None for u in part.given)
            part.stamps = media.stamps(part.path, beside=needs_words)
            ids = {path: place.content_id(path, s, media.content_hash) for path, s in part.stamps.items()}
            content = ids.pop(part.path)
            beside = [[path.name.removeprefix(part.path.stem), i] for path, i in ids.items()]
        except OSError as error:
            failed[part.name] = f"it can't be read: {error.strerror}"
        except RecordingError as error:
            failed[part.name] = error.message
        else:
            part.key = hash_json([content, beside, shape, [asdict(u) for u in part.given]])


def _task(part: _Part, recordings: Recordings, place: WorkDir) -> Task:
    """What a worker is told of a recording.

    Raises:
        RecordingError: it is no recording.
    """
    probed = recordings.probed.get(part.name) or media.probe(part.path)
    part.check_length(probed.duration_s)
    out = place.prepared_file(part.key)
    out.parent.mkdir(parents=True, exist_ok=True)
    return Task(probed, part.key, out, part.stamps, part.given)


def _gathered(
    table: pl.DataFrame,
    parts: Sequence[_Part],
    place: WorkDir,
    encoders: Mapping[str, Mapping[str, Any]],
    folder: Path,
    device: str,
    failed: Mapping[str, str],
) -> Encoded:
    """The recordings' features at the places of their rows."""
    text: list[str | None] = [t or None for t in table["text"]]
    text_source: list[str | None] = ["corpus" if t else None for t in text]
    encoder_by_modality = {m: make_encoder(m, spec, folder, device) for m, spec in encoders.items()}
    arrays = {
        m: (np.zeros((table.height, e.width), np.float32), np.zeros(table.height, np.bool_))
        for m, e in encoder_by_modality.items()
    }
    without = {row for row, name in enumerate(table["recording"]) if name is None}
    problems = [(row, "there is no recording of it") for row in sorted(without)]
    for part in parts:
        if part.name in failed:
            problems += [(row, f"{part.name}: {failed[part.name]}") for row in part.rows]
            without |= set(part.rows)
            continue
        prepared = Prepared.load(place.prepared_file(part.key))
        if prepared is None:
            raise SetupError(f"What was prepared of {part.name} was damaged: run the same command again.")
        try:
            part.check_length(prepared.duration_s)
        except RecordingError as error:
            problems += [(row, f"{part.name}: {error.message}") for row in part.rows]
            without |= set(part.rows)
            continue
        for modality, features in prepared.features.items():
            values, present = arrays[modality]
            values[part.rows], present[part.rows] = features.values, features.present
        for row, utterance in zip(part.rows, prepared.utterances, strict=True):
            if text[row] is None and utterance.text is not None:
                text[row], text_source[row] = utterance.text, prepared.text_source
    if "text" in encoder_by_modality:
        # Rows whose recording gives nothing still have their own text, which is encoded alone.
        for row in sorted(r for r in without if text[r] is not None):
            alone = Utterance(0, 0, 0.0, 1.0, table["speaker"][row], 0.0, text[row])
            features = encoder_by_modality["text"](Evidence(audio=None, faces=None), [alone])
            arrays["text"][0][row], arrays["text"][1][row] = features.values[0], features.present[0]
    return Encoded(
        text=text,
        text_source=text_source,
        features={m: Features(*arrays[m]) for m in MODALITIES if m in arrays},
        fingerprints={m: e.fingerprint for m, e in encoder_by_modality.items()},
        problems=problems,
    )
