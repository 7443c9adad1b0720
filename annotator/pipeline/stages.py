"""One recording through every stage before the network, in a worker process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from annotator import diarize, encode, faces, media, threads, transcribe, utterances
from annotator.languages import iso_639_1
from annotator.levels import CLIPPED_SHARE, sound_levels
from annotator.pipeline.given import completed, turns_of
from annotator.pipeline.kept import (
    Kept,
    Shaping,
    load_features,
    load_turns,
    save_features,
    save_turns,
    sound_order,
)
from annotator.pipeline.loading import without_collection
from annotator.pipeline.looking import Look, Looker, LookSetup, Seen
from annotator.pipeline.people import packed
from annotator.pipeline.prepared import Prepared
from annotator.pipeline.timing import Stopwatch
from annotator.pipeline.workers import Allow
from annotator.records import (
    Audio,
    Evidence,
    Features,
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
    shaping: Shaping | None = None  # what shapes each stage; without it only the whole is kept
    stages: Path | None = None  # where what single stages give is kept


@dataclass(frozen=True)
class Task:
    """One recording: as probed, and where its result goes."""

    media: Media
    key: str
    out: Path
    stamps: Mapping[Path, Sequence[int]]  # of it and the files beside it, when they were hashed
    given: tuple[Utterance, ...] | None = None  # of a labelled corpus, in the place of turns and words found
    content: str | None = None  # SHA-256 of the recording
    beside: Sequence[Any] = ()  # the same of the files beside it, with what their names say


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
    tools = _Tools(setup)
    return lambda task, allow: _InHand(tools, task, allow).prepare()


class _Tools:
    """What a worker needs for its recordings. What a recording may do without is loaded for the first that
    needs it.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        settings, backends = setup.settings, setup.backends
        self.setup, self.settings, self.backends = setup, settings, backends
        self.encoders = {
            m: encode.make_encoder(m, dict(setup.encoders[m]), setup.model_folder, backends.device)
            for m in settings.modalities
            if m in setup.encoders
        }
        self.subtitles = transcribe.make_transcriber("subtitles", self.for_words)
        self.voices_of = diarize.make_voices(backends.device) if settings.link_speakers else None
        face_settings = faces.FaceSettings(backends.face_detector or "auto", backends.yunet_file)
        self.looker = Looker(LookSetup(face_settings, settings.frame_rate, setup.threads, setup.scratch))

    @property
    def for_words(self) -> transcribe.TranscriberSettings:
        return transcriber_settings(self.settings, self.backends.device, self.setup.threads)

    @cached_property
    def diarizer(self) -> diarize.Diarizer:
        for_turns = diarizer_settings(self.settings, self.backends.device)
        with without_collection():
            return diarize.make_diarizer(self.backends.diarizer, for_turns)

    @cached_property
    def transcriber(self) -> transcribe.Transcriber:
        with without_collection():
            return transcribe.make_transcriber(self.backends.transcriber, self.for_words)


@dataclass(frozen=True)
class _Said:
    """What is known of a recording by its sound and the files beside it."""

    utterances: list[Utterance]
    transcript: Transcript
    flags: tuple[str, ...]  # of the diarizer
    beside: Mapping[str, str]  # files read, by what they gave
    voices: Mapping[str, str]
    language: str | None


class _InHand:
    """A recording on its way through the stages.

    Its pictures are followed in another process while its sound is listened to. Only what needs them waits
    for them: the choice of faces, and where something is told after the end of the sound.
    """

    def __init__(self, tools: _Tools, task: Task, allow: Allow) -> None:
        self.tools, self.task, self.allow = tools, task, allow
        self.settings, self.backends, self.scratch = tools.settings, tools.backends, tools.setup.scratch
        self.recording = task.media
        self.clock = Stopwatch(on_stage=allow.at)
        self.has_pictures = "face" in tools.encoders and self.recording.has_video
        self.told = task.given is not None and all(u.text is not None for u in task.given)
        self.audio_file = decoded_file(self.scratch, task.key)
        self.own = self.scratch / f"{task.key}.hand"  # the folder of what is being written
        self.looks = False  # the other process has its pictures in hand
        self.kept = Kept(None, None, None, (), (), False)

    def prepare(self) -> dict[str, Any]:
        """All stages; what they give is written where the task says."""
        task, tools = self.task, self.tools
        try:
            self.own.mkdir(parents=True, exist_ok=True)
            self.kept = Kept(
                tools.setup.shaping,
                tools.setup.stages,
                task.content,
                task.beside,
                sound_order(self.recording, self.settings.language, self.settings.audio_track),
                self.settings.fresh,
            )
            found = self.kept.load("found", Prepared.load)
            said = self.listen() if found is None else None
            utterances = said.utterances if said is not None else list(found.utterances) if found else []
            features = {
                m: self.features(m, self.read(utterances)) for m in tools.encoders if m in ("text", "audio")
            }
            if found is None:
                assert said is not None
                found = self.found(said)
                self.keep("found", lambda file: found.save(file, self.own))
            if "face" in tools.encoders:
                features["face"] = self.features("face", found.utterances)
            prepared = replace(
                found,
                utterances=tuple(self.read(found.utterances)),
                features={m: features[m] for m in tools.encoders},
                seconds=self.clock.wall,
            )
            with self.clock.stage("write"):
                check_unchanged(task, beside=not self.told)
                prepared.save(task.out, self.own)
        except RecordingError:
            check_unchanged(
                task, beside=not self.told
            )  # what is wrong then is of neither the old nor the new
            raise
        finally:
            if self.looks:  # something else went wrong: nobody waits for the pictures
                tools.looker.close()
            self.audio_file.unlink(missing_ok=True)
            shutil.rmtree(self.own, ignore_errors=True)
        return {"duration_s": found.duration_s, "spent": self.clock.spent}

    @cached_property
    def heard(self) -> media.Heard:
        """The sound, decoded."""
        with self.clock.stage("decode"):
            heard = media.hear(
                self.recording,
                self.audio_file,
                language=self.settings.language,
                audio_track=self.settings.audio_track,
                apart=self.settings.channels == "speakers",
                watched=self.has_pictures,
            )
        if heard.audio is not None:
            self.allow(working_limit_s(heard.audio.duration_s))
        return heard

    @cached_property
    def seen(self) -> Seen | None:
        """What the pictures show, once all are looked at; None without pictures."""
        if not self.has_pictures:
            return None
        self.look()
        file = self.kept.file("look")
        if self.looks:
            self.allow(reading_limit_s(self.task))
            spent = self.tools.looker.spent()
            self.looks = False
            self.clock.add(spent)
            check_unchanged(self.task, beside=not self.told)
            file = self.kept.take("look", self.look_file)
        seen = Seen.load(file) if file is not None else None
        if seen is None:
            raise RecordingError("worker", "damaged", "What was seen of it was damaged: run again.")
        self.allow(working_limit_s(seen.watched.end_s))
        return seen

    @property
    def look_file(self) -> Path:
        """Where the other process writes. A kept file is known by its name, too."""
        kept = self.kept.file("look")
        return self.own / (kept.name if kept is not None else "look.safetensors")

    def keep(self, stage: str, write: Callable[[Path], None]) -> None:
        """Keep what a stage gave for later runs, if it is of the content that was hashed.

        Raises: RecordingError (``changed``).
        """
        check_unchanged(self.task, beside=not self.told)
        self.kept.save(stage, write)

    def look(self) -> None:
        """Have the pictures looked at in the other process, if nobody has."""
        if self.looks or not self.has_pictures or self.kept.load("look", Seen.load) is not None:
            return
        settings = self.settings
        look = Look(self.recording, self.look_file, settings.language, settings.audio_track)
        self.tools.looker.start(look)
        self.looks = True

    @cached_property
    def decoded(self) -> media.Decoded:
        """What came out of the recording; waits for the pictures."""
        return media.together(self.recording, self.heard, self.seen.watched if self.seen else None)

    def duration_s(self, ends: Iterable[float]) -> float:
        """How long the recording is, or its sound where that makes no difference to what ends then."""
        audio = self.heard.audio
        if audio is None or max(ends, default=0.0) > audio.duration_s:
            return self.decoded.duration_s
        return audio.duration_s

    def listen(self) -> _Said:
        """Who says what when, by the sound and the files beside it."""
        task, tools, clock = self.task, self.tools, self.clock
        self.look()
        audio = self.heard.audio
        if audio is None:
            _ = self.decoded  # a recording without anything says so before anything else is said of it
        track = self.heard.track
        recording = replace(self.recording, audio=(track,)) if track else self.recording
        beside: dict[str, str] = {}
        with clock.stage("transcribe"):
            # As long as nobody knows who speaks when, somebody may always.
            ever = [Turn(0.0, audio.duration_s, "")] if audio is not None else []
            transcript = Transcript() if self.told else self.subtitled(recording, audio, ever)
        with clock.stage("diarize"):
            turns: list[Turn] | None = turns_of(task.given) if task.given is not None else None
            given = turns
            rttm = speaker_file(recording) if self.backends.take_sidecar_turns and turns is None else None
            if rttm is not None and audio is not None:
                turns = given = diarize.read_rttm(rttm, recording.path.stem)
                beside |= {"speakers": rttm.name}
            # Whoever asks for a diarizer by name has it, for the overlap.
            if turns is None and not (transcript.names_speakers and self.backends.take_sidecar_turns):
                turns = self.diarized(audio) if audio is not None else []
        with clock.stage("transcribe"):
            if transcript.source is None and not self.told:
                transcript = self.transcribed(recording, audio, turns or (), transcript)
            if transcript.source == "sidecar" and transcript.origin is not None:
                beside["transcript"] = transcript.origin
        duration_s = self.duration_s(
            end
            for ends in (
                (word.end for word in transcript.words),
                (turn.end for turn in turns or ()),
                (u.end for u in task.given or ()),
            )
            for end in ends
        )
        transcript = transcribe.cut_at_end(transcript, duration_s)
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
        diarized = turns if isinstance(turns, diarize.Diarized) else None
        with clock.stage("utterances"):
            if task.given is not None:
                built = completed(task.given, transcript, duration_s)
            else:
                built = utterances.build(
                    turns,
                    transcript,
                    duration_s,
                    utterances.UtteranceSettings(dialogue_gap_s=self.settings.dialogue_gap),
                    diarized.alone if diarized is not None else None,
                    given=given is not None,
                    levels=sound_levels(audio) if audio is not None else None,
                )
            built = [with_sound_flags(u, audio) for u in built]
        voices = {}
        if tools.voices_of is not None and audio is not None:
            with clock.stage("voices"):
                voices = {who: packed(voice) for who, voice in tools.voices_of(audio, built).items()}
        language = transcript.language or iso_639_1(self.settings.language)
        return _Said(
            encode.with_languages(built, language),
            transcript,
            diarized.flags if diarized is not None else (),
            beside,
            voices,
            language,
        )

    def subtitled(self, recording: Media, audio: Audio | None, turns: Sequence[Turn]) -> Transcript:
        take = self.backends.take_subtitles
        return self.tools.subtitles(recording, audio, turns) if take else Transcript()

    def transcribed(
        self, recording: Media, audio: Audio | None, turns: Sequence[Turn], earlier: Transcript
    ) -> Transcript:
        if recording.subtitles:  # forced lines may be enough of what is spoken, which is known now
            earlier = self.subtitled(recording, audio, turns)
            if earlier.source is not None:
                return earlier
        return transcribe.after(self.tools.transcriber(recording, audio, turns), earlier)

    def diarized(self, audio: Audio) -> list[Turn]:
        """Who speaks when, by the diarizer."""
        earlier = self.kept.load("turns", load_turns)
        if earlier is not None:
            return earlier
        turns, levels = self.tools.diarizer(audio), self.heard.levels
        apart = self.settings.channels == "speakers"
        if levels is not None and self.settings.channels != "mix":
            if apart or diarize.one_speaker_a_channel(levels):
                turns = diarize.by_channel(turns, levels)
        self.keep("turns", lambda file: save_turns(turns, file, self.own))
        return turns

    def found(self, said: _Said) -> Prepared:
        """All that is known of the recording before anything is encoded."""
        built, transcript, decoded = said.utterances, said.transcript, self.decoded
        coverage: tuple[float | None, ...] = (None,) * len(built)
        if self.has_pictures:
            shown = self.shown(built)
            coverage = shown.coverage
            built = [
                replace(u, flags=(*u.flags, "face_ambiguous")) if ambiguous else u
                for u, ambiguous in zip(built, shown.ambiguous, strict=True)
            ]
        names = {path.name for path in self.recording.sidecars}
        return Prepared(
            utterances=tuple(built),
            features={},
            face_coverage=coverage,
            text_source=transcript.source,
            language=said.language,
            flags=tuple(dict.fromkeys((*decoded.flags, *transcript.flags, *said.flags))),
            duration_s=decoded.duration_s,
            streams={
                "audio": media.described(decoded.track) if decoded.track else None,
                "subtitles": transcript.origin if transcript.source == "embedded" else None,
            },
            rate_hz=decoded.track.rate_hz if decoded.track else None,
            channels=decoded.track.channels if decoded.track else None,
            beside=said.beside,
            voices=said.voices,
            problems=tuple(
                {"stage": p.stage, "error": p.error, "message": p.message} for p in transcript.problems
            ),
            streams_not_used={name: why for name, why in transcript.unused if name not in names},
            not_used={name: why for name, why in transcript.unused if name in names},
        )

    def shown(self, built: Sequence[Utterance]) -> faces.SpeakerFaces:
        """The speakers' faces, chosen once."""
        if self._shown is None:
            assert self.seen is not None
            with self.clock.stage("faces"):
                self._shown = faces.choose(self.seen.tracks, built, self.heard.audio)
        return self._shown

    _shown: faces.SpeakerFaces | None = None

    def read(self, built: Sequence[Utterance]) -> list[Utterance]:
        """The utterances with what the text encoder makes of their languages."""
        if "text" not in self.tools.encoders:
            return list(built)
        return encode.as_read(built, self.tools.setup.encoders["text"], self.tools.setup.text_languages)

    def features(self, modality: str, built: Sequence[Utterance]) -> Features:
        """What an encoder gives, or gave in an earlier run."""
        earlier = self.kept.load(modality, lambda file: load_features(file, len(built)))
        if earlier is not None:
            return earlier
        audio = crops = None
        if modality == "audio":
            audio = self.heard.audio
        elif modality == "face" and self.has_pictures:
            shown = self.shown(built)
            assert self.seen is not None
            crops = tuple(self.seen.tracks.crops[rows] for rows in shown.rows)
        with self.clock.stage(f"encode_{modality}"):
            features = self.tools.encoders[modality](Evidence(audio, crops), built)
        self.keep(modality, lambda file: save_features(features, file, self.own))
        return features


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
