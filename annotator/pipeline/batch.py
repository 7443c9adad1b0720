"""A run from its inputs to its outputs."""

from __future__ import annotations

import hashlib
import logging
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import polars as pl

from annotator import diarize, encode, faces, media, offline, threads, transcribe, weights, whisper_files
from annotator.device import resolve_device
from annotator.pipeline.job import Job
from annotator.pipeline.manifests import read_manifest
from annotator.pipeline.outputs import (
    add_profile,
    check_out,
    manifest,
    work_manifests,
    write_outputs,
)
from annotator.pipeline.profile import Profile
from annotator.pipeline.progress import OnProgress
from annotator.pipeline.scan import Entry
from annotator.pipeline.shaping import installed
from annotator.pipeline.sharing import Sharing
from annotator.pipeline.stages import Backends, FaceDetector, diarizer_settings, transcriber_settings
from annotator.pipeline.workdir import WorkDir, output_held, output_merging
from annotator.pipeline.workers import Pool, WorkerPool
from annotator.predict import Predictor
from annotator.records import SetupError, UsageError
from annotator.settings import RunSettings
from annotator.store import Store, is_address
from annotator.terminal import counted

log = logging.getLogger("annotator")

VERSIONED = (
    "conversation-annotator",
    "torch",
    "transformers",
    "opensmile",
    "polars",
    "ctranslate2",
    "pyannote.audio",
)
NOT_AVAILABLE = " ({} not available: see `annotate doctor`)"


@dataclass
class RunResult:
    """What a run did."""

    out: Path
    total: int  # inputs of this run
    annotated: int = 0  # of them done now, not taken from an earlier run
    failures: list[dict[str, Any]] = field(default_factory=list)
    table: pl.DataFrame | None = None  # None when the run was stopped
    stopped_by: int | None = None  # the signal
    not_shared: str | None = None  # what the store lacks, and why
    profile: Profile | None = None  # where it was asked for

    @property
    def exit_code(self) -> int:
        """0, 3 or 128 + signal, as in the contract; 1 where the store lacks what was done."""
        if self.stopped_by is not None:
            return 128 + self.stopped_by
        if self.not_shared is not None:
            return 1
        return 3 if self.failures else 0


def run(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: RunSettings | None = None,
    *,
    progress: bool | OnProgress = True,
) -> RunResult:
    """Annotate recordings into one table, with its failures file, its record and its work folder.

    Recordings are worked on in processes of their own, which import the script that calls this: there the
    call stands below ``if __name__ == "__main__":``. A notebook and an interactive session need no such
    line.

    Args:
        inputs: recordings, or folders that are searched through.
        out: the table to write, ``.parquet`` or ``.csv``.
        settings: by default those of `annotate run` without options.
        progress: a function that is called with a :class:`Progress` at every step, in the thread of the call
            (what it raises ends the run); or whether to show a bar, if standard error is a terminal.

    Returns: the table, failures and counts. A recording that can't be annotated is one of the failures.

    Raises:
        UsageError: an input is missing, none is a recording, or ``out`` or a setting is no good.
        SetupError: weights are missing or damaged, the disk is full, another run is at work there, or the
            store can't be reached.

    After an error whatever is finished stays, and the same call goes on.
    """
    several = [inputs] if isinstance(inputs, str | Path) else inputs
    settings = settings or RunSettings()
    with offline.when(settings.offline), ExitStack() as around:
        return _run([Path(path) for path in several], Path(out), settings, progress, around)


def _run(
    inputs: Sequence[Path],
    out: Path,
    settings: RunSettings,
    progress: bool | OnProgress,
    around: ExitStack,
) -> RunResult:
    begun = time.monotonic()
    check_out(out)
    if any(map(is_address, inputs)):
        raise UsageError("Recordings are read from this machine: copy or mount what lies at a URL.")
    threads.most()  # what is no number of threads is told before anything is done
    found, passed_over = media.look_through(inputs)
    if not found:
        among = f" Its {len(passed_over)} files are of other kinds." if passed_over else ""
        raise UsageError(
            f"There is no recording in {', '.join(map(str, inputs))}.{among} "
            f"Recordings are told by their ending: {' '.join(sorted(media.MEDIA_SUFFIXES))}."
        )
    folder = weights.checkpoint_folder(settings.model)
    store = Store(settings.store) if settings.store else None
    given = settings
    pool: Callable[..., Pool] = WorkerPool
    processors = threads.processors()
    if settings.engine == "ray":
        from annotator.pipeline import cluster

        nodes = around.enter_context(cluster.connected(settings))
        settings, device, own_device = cluster.settled(settings, nodes)
        pool = cluster.make_pool(nodes, settings, device)
        processors = nodes.cpus
    else:
        device = own_device = resolve_device(settings.device)
    backends = choose_backends(settings, device)
    predictor = Predictor(folder, own_device, settings.modalities, settings.network_memory << 20)
    encoders = encode.usable(predictor.encoders, folder, device, predictor.modalities)
    work = WorkDir(settings.work_dir or out.with_suffix(".work"), settings.shard)
    entries = [Entry(f.file, f.path, failure=f.problem) for f in found]
    if settings.shard:
        index, of = settings.shard
        entries = [e for e in entries if shard_of(e.file, of) == index]
    started = time.time()
    sharing = Sharing(store, work, predictor.labels, settings.fresh) if store else None
    if sharing:
        sharing.begin()
    job = Job(entries, settings, backends, predictor, encoders, folder, work, progress, sharing, pool)
    with ExitStack() as held:
        held.callback(job.close)
        held.enter_context(job.meter)
        elsewhere = sharing is not None and sharing.has_run(job.part_settings)
        if not elsewhere and not has_run(work, job.part_settings):
            job.get_ready()
        held.enter_context(output_held(out, settings.shard))
        held.enter_context(work.locked())
        job.run()
        if sharing:
            sharing.deliver(last=True)
        result = RunResult(out, len(entries), job.annotated, stopped_by=job.stop.signal)
        if job.stop.signal is None:
            left_out = {"fresh", "retry_failed", "report", "profile", "engine", "ray_address", "store"}
            plain = given.model_dump(mode="json", exclude=left_out)
            about = {
                "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
                "wall_seconds": round(time.time() - started, 3),
                "seconds_per_stage": {k: round(v.wall, 3) for k, v in job.spent().items()},
                "annotated_now": job.annotated,
                "device": device,
                "backends": {
                    "diarizer": backends.diarizer,
                    "transcriber": backends.transcriber,
                    "whisper": backends.whisper.name if backends.whisper else None,
                    "face_detector": backends.face_detector,
                },
            }
            job.now = "writing the table"
            # Shards of one output end side by side: the last one to merge must see all.
            others = [{"file": other.file, "reason": other.reason} for other in passed_over]
            with output_merging(out):
                with job.clock.stage("write"):
                    told = manifest(job, plain, versions(), about, others)
                    work.write_json(work.manifest_file, told)
                    result.table, result.failures = write_outputs(work_manifests(work), out)
                if settings.profile:  # it knows of the writing, too
                    result.profile = replace(job.profile(time.monotonic() - begun), processors=processors)
                    add_profile(work, out, told, result.profile)
            if sharing:
                result.not_shared = sharing.end()
            if line := done_already(len(entries), job.found):
                log.info("%s", line)
            if line := without_words(result.table, backends.transcriber):
                log.info("%s", line)
        else:
            if sharing:
                result.not_shared = sharing.lacks()
            if settings.profile:
                result.profile = replace(job.profile(time.monotonic() - begun), processors=processors)
    return result


def has_run(work: WorkDir, part_settings: str) -> bool:
    """Whether a run with these settings and weights has ended here: there may be nothing left to do.

    Else there is, and what is wrong with the checkpoint is said before anything is written.
    """
    earlier = read_manifest(work.manifest_file)
    return earlier is not None and earlier["settings_hash"] == part_settings


def done_already(inputs: int, found: int) -> str | None:
    """How many of a run's inputs an earlier run had annotated, with the same settings; None if none."""
    if not found:
        return None
    if found == inputs:
        return (
            f"all {inputs} recordings were done already" if inputs > 1 else "the recording was done already"
        )
    return f"{found} of {inputs} recordings {'were' if found > 1 else 'was'} done already"


def without_words(rows: pl.DataFrame, transcriber: str) -> str | None:
    """How many recordings have speech and no words, why, and what would give them some; None if none has."""
    if not len(rows):
        return None
    silent = rows.group_by("file").agg(pl.col("text").is_null().all()).get_column("text").sum()
    if not silent:
        return None
    why, remedy = (
        "Whisper understood none in them",
        "A larger one may (`annotate download whisper`), or subtitles of the same name beside them",
    )
    if transcriber != "whisper":
        why = f"they have no transcript, and the transcriber is {transcriber}"
        remedy = "`--transcriber auto` recognises them; or put subtitles of the same name beside them"
    have = "has" if silent == 1 else "have"
    return f"{silent} of {counted(rows['file'].n_unique(), 'recording')} {have} no words: {why}. {remedy}."


def versions() -> dict[str, str]:
    """Versions of what shapes the numbers."""
    return installed(VERSIONED) | {"python": platform.python_version(), "ffmpeg": media.ffmpeg_version()}


def shard_of(file: str, shards: int) -> int:
    """The shard that a recording belongs to: by its name, so that every machine agrees."""
    return int.from_bytes(hashlib.sha256(file.encode()).digest()[:8], "big") % shards


def choose_backends(settings: RunSettings, device: str) -> Backends:
    """Settle what each stage uses, and log one line a stage that says what and why.

    Raises: UsageError for an unknown name; SetupError when a backend that was asked for can't run.
    """
    for_turns, for_words = diarizer_settings(settings, device), transcriber_settings(settings, device)
    # A folder that was given is meant to be used: `auto` doesn't pass over it in silence.
    for folder, problem in (
        (settings.pyannote_folder, diarize.available("pyannote", for_turns)),
        (settings.whisper_folder, transcribe.available("whisper", for_words)),
    ):
        if folder is not None and problem:
            raise SetupError(problem)
    diarizer = choose(
        "diarizer",
        settings.diarizer,
        ("pyannote", "embedded"),
        list(diarize.DIARIZERS),
        lambda name: diarize.available(name, for_turns),
        may_be_spared=True,
    )
    transcriber = choose(
        "transcriber",
        settings.transcriber,
        ("whisper", "none"),
        list(transcribe.TRANSCRIBERS),
        lambda name: transcribe.available(name, for_words),
    )
    whisper = whisper_files.best(settings.whisper_folder, device) if transcriber == "whisper" else None
    if whisper is not None:
        log.info("recognition: %s", whisper.name)
    detector, yunet = choose_face_detector(settings)
    return Backends(
        diarizer=diarizer,
        transcriber=transcriber,
        whisper=whisper,
        face_detector=detector,
        yunet_file=yunet,
        device=device,
        take_sidecar_turns=settings.diarizer == "auto",
        take_subtitles=settings.transcriber == "auto",
    )


def choose_face_detector(settings: RunSettings) -> tuple[FaceDetector | None, Path | None]:
    """The face detector and, for YuNet, its file; neither where no faces are wanted.

    Raises: SetupError when the one that was asked for, or every one, can't run.
    """
    if "face" not in settings.modalities:
        return None, None
    yunet = weights.yunet_file()
    names: tuple[FaceDetector, ...] = ("yunet", "centerface")  # best first
    chosen = choose(
        "face detector", settings.face_detector, names, names, lambda name: faces.missing(name, yunet)
    )
    detector = names[names.index(cast(FaceDetector, chosen))]
    return detector, yunet if detector == "yunet" else None


def choose(
    stage: str,
    asked: str,
    order: Sequence[str],
    known: Sequence[str],
    lacks: Callable[[str], str | None],
    may_be_spared: bool = False,
) -> str:
    """The first backend of ``order`` that lacks nothing, or the one that was asked for.

    Args:
        may_be_spared: recordings may do without it: where none can run it is the last of ``order``, and the
            run ends with what that lacks at the first recording that needs it.
    """
    if asked != "auto":
        if asked not in known:
            raise UsageError(f"Unknown {stage} {asked!r}: choose from auto, {', '.join(known)}.")
        if problem := lacks(asked):
            raise SetupError(f"The {stage} {asked} can't run: {problem}")
        log.info("%s: %s, as asked", stage, asked)
        return asked
    passed_over: dict[str, str] = {}
    for name in order:
        problem = lacks(name)
        if problem is None:
            # What the better ones lack takes sentences, which doctor has room for.
            lacking = NOT_AVAILABLE.format(", ".join(passed_over)) if passed_over else ""
            log.info("%s: %s%s", stage, name, lacking)
            return name
        passed_over[name] = problem
    if may_be_spared:
        log.warning("%s: none can run; only recordings that need none can be annotated", stage)
        return order[-1]
    raise SetupError(f"No {stage} can run. {' '.join(passed_over.values())}")
