"""One recording through every stage before the network, in a worker process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from annotator import diarize, encode, faces, media, threads, transcribe, utterances
from annotator.languages import iso_639_1
from annotator.levels import sound_levels
from annotator.pipeline.given import completed, turns_of
from annotator.pipeline.people import packed
from annotator.pipeline.prepared import Prepared
from annotator.pipeline.timing import Stopwatch
from annotator.pipeline.workers import Allow
from annotator.records import (
    Audio,
    ChannelLevels,
    Evidence,
    Media,
    RecordingError,
    Transcript,
    Turn,
    Utterance,
)
from annotator.settings import RunSettings
from annotator.whisper_files import WhisperFiles

FaceDetector = Literal["yunet", "centerface"]
# What a worker may take for a recording before it counts as hanging: until it is decoded, whatever the file
# says of itself, and then by what was decoded. Recognition on a slow CPU takes about ten seconds for each of
# the recording.
LIMIT_S, LIMIT_S_PER_S, LIMIT_MAX_S = 3600.0, 60.0, 14 * 86_400.0
CLIPPED_SHARE = 1e-3  # of samples at full scale, from which speech sounds distorted


@dataclass(frozen=True)
class Backends:
    """What each stage uses in this run; settled once, before the workers start."""

    diarizer: str
    transcriber: str
    whisper: WhisperFiles | None  # which one recognises, where any does
    face_detector: FaceDetector | None  # None without faces
    yunet_file: Path | None
    device: str
    take_sidecar_turns: bool  # an RTTM beside the recording goes before the diarizer
    take_subtitles: bool  # subtitles go before recognition


@dataclass(frozen=True)
class WorkerSetup:
    """All that a worker needs to build its tools."""

    settings: RunSettings
    backends: Backends
    encoders: Mapping[str, Mapping[str, Any]]  # modality -> spec, from the checkpoint
    model_folder: Path
    scratch: Path
    threads: int
    text_languages: Sequence[str] | None = None  # of its text, where the checkpoint says


@dataclass(frozen=True)
class Task:
    """One recording: as probed, and where its result goes."""

    media: Media
    key: str
    out: Path
    stamps: Mapping[Path, Sequence[int]]  # of it and the files beside it, when they were hashed
    given: tuple[Utterance, ...] | None = None  # of a labelled corpus, in the place of turns and words found


def reading_limit_s(task: Task) -> float:
    """Seconds that a worker may take until a recording is decoded; ffmpeg's own limits come before it."""
    return LIMIT_S + 4 * media.Limits().decode_max_s


def working_limit_s(decoded_s: float) -> float:
    """Seconds that a worker may take for what comes after, by how much was decoded."""
    return min(LIMIT_MAX_S, LIMIT_S + LIMIT_S_PER_S * decoded_s)


def make_worker(setup: WorkerSetup) -> Callable[[Task, Allow], dict[str, Any]]:
    """Build the tools of a worker once; returns the function that prepares a recording.

    It is given a task, and a function that takes how many seconds the rest of it may take.
    """
    threads.use(setup.threads)
    settings, backends = setup.settings, setup.backends
    wanted = [m for m in settings.modalities if m in setup.encoders]
    encoders = {
        m: encode.make_encoder(m, dict(setup.encoders[m]), setup.model_folder, backends.device)
        for m in wanted
    }
    diarizer: diarize.Diarizer | None = None
    subtitles = transcribe.make_transcriber("subtitles", transcriber_settings(settings, backends.device))
    transcriber: transcribe.Transcriber | None = None
    voices_of = diarize.make_voices(backends.device) if settings.link_speakers else None
    face_settings = faces.FaceSettings(backends.face_detector or "auto", backends.yunet_file)

    def diarized(audio: Audio, levels: ChannelLevels | None) -> list[Turn]:
        nonlocal diarizer
        if diarizer is None:
            diarizer = diarize.make_diarizer(backends.diarizer, diarizer_settings(settings, backends.device))
        turns = diarizer(audio)
        if levels is None or settings.channels == "mix":
            return turns
        if settings.channels is None and not diarize.one_speaker_a_channel(levels):
            return turns
        return diarize.by_channel(turns, levels)

    def subtitled(recording: Media, audio: Audio | None, turns: Sequence[Turn]) -> Transcript:
        return subtitles(recording, audio, turns) if backends.take_subtitles else Transcript()

    def transcribed(
        recording: Media, audio: Audio | None, turns: Sequence[Turn], earlier: Transcript
    ) -> Transcript:
        nonlocal transcriber
        if recording.subtitles:  # forced lines may be enough of what is spoken, which is known now
            earlier = subtitled(recording, audio, turns)
            if earlier.source is not None:
                return earlier
        if transcriber is None:
            transcriber = transcribe.make_transcriber(
                backends.transcriber, transcriber_settings(settings, backends.device, setup.threads)
            )
        return transcribe.after(transcriber(recording, audio, turns), earlier)

    def prepare(task: Task, allow: Allow) -> dict[str, Any]:
        recording = task.media
        clock = Stopwatch(on_stage=allow.at)
        beside: dict[str, str] = {}
        with_faces = "face" in encoders and recording.has_video
        audio_file = decoded_file(setup.scratch, task.key)
        told = task.given is not None and all(u.text is not None for u in task.given)
        tracker = faces.FaceTracker(face_settings) if with_faces else None

        def follow(time_s: float, frame: NDArray[np.uint8]) -> None:
            assert tracker is not None
            with clock.stage("faces"):
                tracker.add(time_s, frame)

        try:
            with clock.stage("decode"):
                decoded = media.decode(
                    recording,
                    audio_file,
                    follow if tracker else None,
                    frame_rate_hz=settings.frame_rate,
                    language=settings.language,
                    audio_track=settings.audio_track,
                    apart=settings.channels == "speakers",
                    on_thumbnail=tracker.cuts.add if tracker else None,
                )
            allow(working_limit_s(decoded.duration_s))
            audio = decoded.audio
            with clock.stage("transcribe"):
                heard = replace(recording, audio=(decoded.track,)) if decoded.track else recording
                # As long as nobody knows who speaks when, somebody may always.
                ever = [Turn(0.0, audio.duration_s, "")] if audio is not None else []
                transcript = Transcript() if told else subtitled(heard, audio, ever)
            with clock.stage("diarize"):
                turns = given = turns_of(task.given) if task.given is not None else None
                rttm = speaker_file(recording) if backends.take_sidecar_turns and turns is None else None
                if rttm is not None and audio is not None:
                    turns = given = diarize.read_rttm(rttm, recording.path.stem)
                    beside |= {"speakers": rttm.name}
                # Whoever asks for a diarizer by name has it, for the overlap.
                if turns is None and not (transcript.names_speakers and backends.take_sidecar_turns):
                    turns = diarized(audio, decoded.levels) if audio is not None else []
            with clock.stage("transcribe"):
                if transcript.source is None and not told:
                    transcript = transcribed(heard, audio, turns or (), transcript)
                transcript = transcribe.cut_at_end(transcript, decoded.duration_s)
                if transcript.source == "sidecar" and transcript.origin is not None:
                    beside["transcript"] = transcript.origin
            # A corpus is not made without words that somebody meant to be in it.
            if transcript.problems and not transcript.words and (audio is None or task.given is not None):
                raise transcript.problems[0]
            if audio is None and not transcript.words and given is None:
                raise RecordingError(
                    "diarize",
                    "no_sound",
                    "There is neither sound nor a transcript, so there are no utterances to label. "
                    "Put a subtitle file of the same name beside it.",
                )
            with clock.stage("utterances"):
                build = utterances.UtteranceSettings(dialogue_gap_s=settings.dialogue_gap)
                if task.given is not None:
                    built = completed(task.given, transcript, decoded.duration_s)
                else:
                    built = utterances.build(
                        turns,
                        transcript,
                        decoded.duration_s,
                        build,
                        turns.alone if isinstance(turns, diarize.Diarized) else None,
                        given=given is not None,
                        levels=sound_levels(audio) if audio is not None else None,
                    )
                built = [with_sound_flags(u, audio) for u in built]
            voices = {}
            if voices_of is not None and audio is not None:
                with clock.stage("voices"):
                    voices = {who: packed(voice) for who, voice in voices_of(audio, built).items()}
            crops = coverage = None
            with clock.stage("faces"):
                if tracker is not None:
                    tracks = tracker.finish()
                    shown = faces.choose(tracks, built, audio)
                    crops, coverage = tuple(tracks.crops[rows] for rows in shown.rows), shown.coverage
                    built = [
                        replace(u, flags=(*u.flags, "face_ambiguous")) if ambiguous else u
                        for u, ambiguous in zip(built, shown.ambiguous, strict=True)
                    ]
            language = transcript.language or iso_639_1(settings.language)
            built = encode.with_languages(built, language)
            if "text" in encoders:
                built = encode.as_read(built, setup.encoders["text"], setup.text_languages)
            evidence = Evidence(audio, crops, coverage)
            features = {}
            for modality, encoder in encoders.items():
                with clock.stage(f"encode_{modality}"):
                    features[modality] = encoder(evidence, built)
            files = {path.name for path in recording.sidecars}
            prepared = Prepared(
                utterances=tuple(built),
                features=features,
                face_coverage=coverage if coverage is not None else (None,) * len(built),
                text_source=transcript.source,
                language=language,
                flags=tuple(
                    dict.fromkeys(
                        (
                            *decoded.flags,
                            *transcript.flags,
                            *(turns.flags if isinstance(turns, diarize.Diarized) else ()),
                        )
                    )
                ),
                duration_s=decoded.duration_s,
                streams={
                    "audio": media.described(decoded.track) if decoded.track else None,
                    "subtitles": transcript.origin if transcript.source == "embedded" else None,
                },
                rate_hz=decoded.track.rate_hz if decoded.track else None,
                channels=decoded.track.channels if decoded.track else None,
                beside=beside,
                seconds=clock.wall,
                voices=voices,
                problems=tuple(
                    {"stage": p.stage, "error": p.error, "message": p.message} for p in transcript.problems
                ),
                streams_not_used={name: why for name, why in transcript.unused if name not in files},
                not_used={name: why for name, why in transcript.unused if name in files},
            )
            with clock.stage("write"):
                check_unchanged(task, beside=not told)
                prepared.save(task.out, setup.scratch)
        except RecordingError:
            check_unchanged(task, beside=not told)  # then what is wrong is of neither the old nor the new
            raise
        finally:
            audio_file.unlink(missing_ok=True)
        return {"duration_s": decoded.duration_s, "spent": clock.spent}

    return prepare


def check_unchanged(task: Task, *, beside: bool) -> None:
    """Raises: RecordingError (``changed``) where a file is not the one that was hashed."""
    try:
        if media.same(media.stamps(task.media.path, beside=beside), task.stamps):
            return
    except OSError:
        pass
    message = "It, or a file beside it, changed while it was read: run again."
    raise RecordingError("decode", "changed", message)


def speaker_file(recording: Media) -> Path | None:
    """The RTTM beside a recording: of several, the one with the shortest name."""
    found = [path for path in recording.sidecars if path.suffix.lower() == ".rttm"]
    return min(found, key=lambda path: (len(path.name), path.name), default=None)


def decoded_file(scratch: Path, key: str) -> Path:
    """Where the sound of a recording in hand lies."""
    return scratch / f"{key}.pcm"


def diarizer_settings(settings: RunSettings, device: str) -> diarize.DiarizerSettings:
    return diarize.DiarizerSettings(
        speakers=settings.speakers,
        min_speakers=settings.min_speakers,
        max_speakers=settings.max_speakers,
        device=device,
        pyannote_folder=settings.pyannote_folder,
        offline=settings.offline,
    )


def transcriber_settings(
    settings: RunSettings, device: str, threads: int = 0
) -> transcribe.TranscriberSettings:
    return transcribe.TranscriberSettings(
        language=settings.language,
        device=device,
        whisper_folder=settings.whisper_folder,
        threads=threads,
        extract_subtitles=media.extract_subtitles,
        subtitle_track=settings.subtitle_track,
    )


def with_sound_flags(utterance: Utterance, audio: Audio | None) -> Utterance:
    """Add ``silent`` and ``clipped`` by what the utterance sounds like."""
    if audio is None:
        return utterance
    samples = audio.window(utterance.start, utterance.end)
    flags = list(utterance.flags)
    if not samples.any():
        flags.append("silent")
    elif np.mean(np.abs(samples) >= 32767 / 32768) > CLIPPED_SHARE:
        flags.append("clipped")
    return replace(utterance, flags=tuple(flags))
