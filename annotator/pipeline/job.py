"""The recordings of one run on their way: scanned, prepared by workers, labelled in batches."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotator import encode, media, table, threads, weights
from annotator.pipeline.loading import without_collection
from annotator.pipeline.parts import read_part
from annotator.pipeline.prepared import Prepared
from annotator.pipeline.profile import PREPARING, Profile
from annotator.pipeline.progress import Meter, OnProgress, clock
from annotator.pipeline.scan import Entry, Scan
from annotator.pipeline.shaping import beside_key, shaped_by
from annotator.pipeline.sharing import Sharing
from annotator.pipeline.signals import Stop
from annotator.pipeline.stages import (
    Backends,
    Task,
    WorkerSetup,
    make_worker,
    reading_limit_s,
)
from annotator.pipeline.timing import Shift, Spent, Stopwatch, of_thread
from annotator.pipeline.workdir import WorkDir, hash_json
from annotator.pipeline.workers import Outcome, Pool, WorkerPool
from annotator.predict import Predictor
from annotator.records import Prediction, RecordingError, SetupError
from annotator.settings import RunSettings

log = logging.getLogger("annotator")

SCAN_AHEAD = 8  # recordings hashed and probed before they are needed
# Faults that need not lie in the recording: a busy or failing machine, a decoder that was killed.
PASSING = {"changed", "unreadable", "timeout", "decoder_killed"}
# Flags of a recording that its rows don't inherit: they say what they have, and silent and clipped
# are found out for each utterance.
NOT_FOR_ROWS = {"no_audio", "no_video", "silent", "clipped", "speakers_alike"}
STAGES = {"load": "loading models for", "write": "writing", **{k: f"{v} of" for k, v in PREPARING.items()}}
MOST_NAMED = 3  # recordings in a message
MOST_PLAUSIBLE = 3  # labels of an utterance that is not `uncertain`


def doubts(prediction: Prediction) -> list[list[str]]:
    """Flags of each utterance that say how little its label rests on."""
    return [
        (["uncertain"] if plausible.sum() > MOST_PLAUSIBLE else []) + ([] if used.any() else ["no_evidence"])
        for plausible, used in zip(prediction.plausible, prediction.used, strict=True)
    ]


def check_encoders(predictor: Predictor, encoders: Mapping[str, Any], folder: Path) -> None:
    """See that what the checkpoint says of its encoders holds.

    Raises: UsageError, SetupError.
    """
    for modality in predictor.modalities:
        if modality not in encoders:
            raise SetupError(f"The checkpoint {predictor.name} does not say what encodes {modality}.")
        spec = encoders[modality]
        width, wanted = encode.check_encoder(modality, spec, folder), predictor.widths[modality]
        if width != wanted:
            raise SetupError(
                f"The {modality} encoder of {predictor.name} gives {width} numbers, and the network takes "
                f"{wanted}: it is not the one that it was trained with."
            )


def tell_if_damaged(file: Path) -> None:
    """One line about a file of the work folder that is there and not used."""
    if file.exists():
        log.warning("%s is damaged or not in its place: it is made again.", media.escaped(str(file)))


@dataclass
class Job:
    """The recordings of one run and what happens to them."""

    entries: list[Entry]
    settings: RunSettings
    backends: Backends
    predictor: Predictor
    encoders: dict[str, dict[str, Any]]  # the checkpoint's, as far as this machine has them
    folder: Path
    work: WorkDir
    progress: bool | OnProgress
    sharing: Sharing | None = None  # with other machines, where there is a store
    make_pool: Callable[..., Pool] = WorkerPool  # where the workers are: on this machine, or elsewhere
    stop: Stop = field(default_factory=Stop)
    clock: Stopwatch = field(default_factory=lambda: Stopwatch(time.process_time))  # of all processes
    sound_s: float = 0.0  # length of the recordings that workers have prepared
    labelling_s: float = 0.0  # the network, and writing what it says
    waited_s: float = 0.0  # for recordings that workers have in hand
    annotated: int = 0  # recordings that were not there from an earlier run
    found: int = 0  # inputs whose rows were there from an earlier run

    def __post_init__(self) -> None:
        predictor = self.predictor
        shaping = shaped_by(
            self.settings, self.backends, self.encoders, self.folder, predictor.text_languages
        )
        self.shaping = shaping
        self.prepared_settings = hash_json(shaping)
        self.part_settings = hash_json([self.prepared_settings, weights.folder_hash(self.folder)])
        self._by_key: dict[str, list[Entry]] = {}  # all inputs that share a prepared form
        self._ready: deque[Entry] = deque()  # prepared, to be labelled
        self._tasks: deque[Task] = deque()
        self._deaths: set[str] = set()  # keys of recordings under which a worker has died
        self._pool: Pool | None = None
        self.meter = Meter(
            len(self.entries), self.progress, self.doing
        )  # to be entered by whoever calls `run`
        self._begun: dict[str, float] = {}  # when a worker got the recording of a key
        self._took_s = 0.0  # workers, for the recordings of sound_s
        self.now = ""  # what this process does that takes long

    def run(self) -> None:
        """Do what is left to do: every recording ends with a part or a failure, unless stopped."""
        todo = deque(self.entries)
        scans: deque[tuple[Entry, Future[None]]] = deque()
        scan_clock = Stopwatch(of_thread)

        def identify(entry: Entry) -> None:
            with scan_clock.stage("find"):
                self.identify(entry)

        scan = Scan(identify)
        meter = self.meter
        self.stop.waiting_for = self.waiting_for
        try:
            with self.stop.listening():
                while self.stop.signal is None and (todo or scans or self._tasks or self.in_hand):
                    while todo and len(scans) < SCAN_AHEAD:
                        entry = todo.popleft()
                        scans.append((entry, scan.submit(entry)))
                    # Wait for the scan only when there is nothing else to do.
                    while scans and (scans[0][1].done() or not (self._tasks or self.in_hand)):
                        if not wait([scans[0][1]], timeout=0.5).done:
                            break  # a large file: look whether to stop, then wait on
                        entry, future = scans.popleft()
                        future.result()
                        meter.found(entry.duration_s)
                        if not self.admit(entry):
                            meter.done(entry.duration_s)
                    self.hand_out(meter)
                    self.take_in(meter)
                    if len(self._ready) >= self.settings.batch_size:
                        self.label()
                if self._pool:
                    self._pool.withdraw()
                while self.in_hand:
                    self.take_in(meter)
                self.label()
        finally:
            scan.end()
            self.clock.add(dict(scan_clock.spent))  # of a run that was stopped the scan may go on
            self.close()
            self.work.save_inputs()

    def spent(self) -> dict[str, Spent]:
        """What each stage has spent, over all processes."""
        whole = Stopwatch()
        for part in (self.clock.spent, *({"load": worker.loading} for worker in self.shifts)):
            whole.add(part)
        return whole.spent

    def profile(self, wall_s: float) -> Profile:
        """Where the time of the run went, which took ``wall_s`` seconds."""
        return Profile(
            shard=self.settings.shard,
            wall_s=wall_s,
            sound_s=self.sound_s,
            processors=threads.processors(),
            threads=threads.of_worker(self.size, self.settings.threads),
            stages=self.spent(),
            workers=self.shifts,
            labelling_s=self.labelling_s,
            network_waited_s=self.waited_s,
        )

    def close(self) -> None:
        """End the workers; at once where something went wrong."""
        if self._pool:
            self._pool.close(kill=sys.exc_info()[0] is not None)

    @property
    def shifts(self) -> list[Shift]:
        """What each worker has done."""
        return self._pool.shifts if self._pool else []

    @property
    def size(self) -> int:
        """Workers at most."""
        return max(1, min(self.settings.worker_count, len(self.entries)))  # a shard may have no inputs

    @property
    def in_hand(self) -> list[Task]:
        return self._pool.in_hand if self._pool else []

    def identify(self, entry: Entry) -> None:
        """Content hash, keys and, if it has no part yet, probe of an input. Faults become its failure.

        Runs in the scan thread, which may outlive the run: it writes nothing.
        """
        if entry.failure is not None or self.stop.signal is not None:
            return
        path = entry.path
        beside = []
        try:
            entry.stamps = media.stamps(entry.path)
            for path, stamp in entry.stamps.items():
                content = self.work.content_id(path, stamp, media.content_hash)
                if path == entry.path:
                    entry.file_id = content
                else:
                    beside.append(beside_key(path, entry.path, content))
            changed = not media.same(media.stamps(entry.path), entry.stamps)
        except (OSError, RecordingError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            message = f"{media.escaped(path.name)} can't be read: {reason}"
            entry.failure = RecordingError("find", "unreadable", message)
            return
        if changed:
            message = "It, or a file beside it, changed while it was read: run again."
            entry.failure = RecordingError("find", "changed", message)
            return
        assert entry.file_id is not None
        entry.beside = beside
        entry.key = hash_json([entry.file_id, beside, self.prepared_settings])
        entry.part = hash_json([entry.file_id, beside, self.part_settings])
        if not self.settings.fresh:
            file = self.work.part_file(entry.part)
            part = read_part(file, entry.file_id, self.predictor.labels)
            if part is not None:
                entry.duration_s = float(part.facts["duration_s"])
                return
            tell_if_damaged(file)
            if self.sharing is not None and self.sharing.fetch(entry):
                return
        earlier = self.work.read_failure(entry.key)
        if earlier is None and self.sharing is not None:
            earlier = self.sharing.failure(entry.key)
        if earlier is not None:
            entry.attempts = earlier["attempts"]
            if not (self.settings.retry_failed or self.settings.fresh):
                entry.failure = RecordingError(earlier["stage"], earlier["error"], earlier["message"])
                return
            entry.attempts += 1
        try:
            entry.media = media.probe(entry.path)
            entry.duration_s = entry.media.duration_s or 0.0
        except RecordingError as error:
            entry.failure, entry.is_new_failure = error, True

    def admit(self, entry: Entry) -> bool:
        """Queue what an input needs; False when nothing is left to do for it."""
        if entry.failure is not None:
            if entry.is_new_failure:
                self.fail(entry, entry.failure)
            elif self.sharing is not None:
                self.sharing.failed(entry, anew=False)
            return False
        if entry.media is None:
            self.found += 1
            if self.sharing is not None:
                self.sharing.found(entry)
            self.work.failure_file(entry.key).unlink(missing_ok=True)
            return False
        copies = self._by_key.setdefault(entry.key, [])
        copies.append(entry)
        if len(copies) > 1:
            entry.failure, entry.attempts = copies[0].failure, copies[0].attempts
            return False
        file = self.work.prepared_file(entry.key)
        if not self.settings.fresh:
            if Prepared.load(file) is not None:
                self._ready.append(entry)
                return False
            tell_if_damaged(file)
        task = Task(
            entry.media, entry.key, file, entry.stamps, content=entry.file_id, beside=tuple(entry.beside)
        )
        self._tasks.append(task)
        return True

    def doing(self) -> str:
        """What is being done at the moment, for people: the stage and the recording, of several one more."""
        at_work = self._pool.at_work if self._pool else []
        if self.now or not at_work:
            return self.now or "looking at the inputs"
        (task, stage), *others = at_work
        file = media.escaped(self._by_key[task.key][0].file)
        more = f" and {len(others)} more" if others else ""
        return f"{STAGES.get(stage or '', 'reading')} {file}{more}"

    def waiting_for(self) -> str:
        """What is in hand, and about how long it takes, by what others have taken for each second."""
        at_work = self._pool.at_work if self._pool else []
        if not at_work:
            return "what is in hand"
        files = [media.escaped(self._by_key[task.key][0].file) for task, _ in at_work]
        named = ", ".join(files[:MOST_NAMED]) + (" and more" if len(files) > MOST_NAMED else "")
        if not self.sound_s:
            return f"what is in hand ({named})"
        now, rate = time.monotonic(), self._took_s / self.sound_s
        left = [
            self._by_key[task.key][0].duration_s * rate - (now - self._begun.get(task.key, now))
            for task, _ in at_work
        ]
        return f"what is in hand ({named}), about {clock(max(1.0, *left))}"

    def hand_out(self, meter: Meter) -> None:
        """Give waiting recordings to idle workers."""
        if not self._tasks or self.stop.signal is not None:
            return
        pool = self._pool or self.get_ready(len(self._tasks))
        while self._tasks and pool.idle:
            task = self._tasks.popleft()
            self._begun[task.key] = time.monotonic()
            meter.begun(self._by_key[task.key][0].file)
            pool.submit(task)

    def get_ready(self, tasks: int | None = None) -> Pool:
        """Start the workers, and see that the checkpoint can be used, before any recording is worked on.

        PyTorch and torch_geometric take seconds, in which the workers load what they need themselves.

        Args:
            tasks: recordings that workers will have to do, where that is known. Else they are started unless
                an earlier run has prepared something: it may be all, and each takes seconds to load.

        Raises: UsageError, SetupError.
        """
        if lacks := media.sandbox_lacks():
            log.warning("decoding: this machine can't hold ffmpeg to %s (see docs/security.md)", lacks)
        setup = WorkerSetup(
            settings=self.settings,
            backends=self.backends,
            encoders=self.encoders,
            text_languages=self.predictor.text_languages,
            model_folder=self.folder,
            scratch=self.work.scratch,
            threads=threads.of_worker(self.size, self.settings.threads),
            shaping=self.shaping,
            stages=self.work.stages,
        )
        self._pool = self.make_pool(self.size, make_worker, setup, reading_limit_s, setup.threads)
        if tasks is None:
            earlier = any(self.work.root.glob("prepared/*"))
            tasks = 0 if earlier else sum(entry.failure is None for entry in self.entries)
        self._pool.start(tasks)
        self.now = "loading models"
        with self.clock.stage("load"), without_collection():
            check_encoders(self.predictor, self.encoders, self.folder)
            self.predictor.load()
        self.now = ""
        return self._pool

    def take_in(self, meter: Meter) -> None:
        """Take in what the workers have done, waiting half a second at most."""
        if self._pool is None or not self._pool.in_hand:
            return
        asked = time.monotonic()
        outcomes = self._pool.collect(timeout_s=0.5)
        self.waited_s += time.monotonic() - asked
        for outcome in outcomes:
            entry = self._by_key[outcome.task.key][0]
            if self.settle(outcome):
                meter.done(entry.duration_s)

    def settle(self, outcome: Outcome) -> bool:
        """Note what became of a task; False when it is to be tried again.

        Raises: what isn't the recording's fault (a full disk, missing weights).
        """
        task: Task = outcome.task
        copies = self._by_key[task.key]
        if outcome.error is None:
            self.clock.add(outcome.result["spent"])
            self.sound_s += outcome.result["duration_s"]
            self._took_s += time.monotonic() - self._begun[task.key]
            self._ready.append(copies[0])
            return True
        if outcome.details:
            log.debug("%s", outcome.details)
        if not isinstance(outcome.error, RecordingError):
            raise outcome.error
        if outcome.error.stage == "worker":  # killed, it has not cleaned up after itself
            for left in self.work.scratch.glob(f"*{task.key}*"):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
        if outcome.died and task.key not in self._deaths:
            self._deaths.add(task.key)
            log.warning("%s: %s Trying once more.", media.escaped(copies[0].file), outcome.error.message)
            for entry in copies:
                entry.attempts += 1
            self._tasks.appendleft(task)
            return False
        for entry in copies:
            self.fail(entry, outcome.error)
        return True

    def fail(self, entry: Entry, error: RecordingError) -> None:
        """Note that a recording can't be annotated, also for later runs if the fault lies in it."""
        message = media.escaped(error.message)  # it may quote names and what the file says of itself
        entry.failure = RecordingError(error.stage, error.error, message)
        log.info("%s failed at %s: %s", media.escaped(entry.file), error.stage, message)
        passing = error.stage in ("worker", "predict") or error.error in PASSING
        if passing or not entry.path.exists():
            return  # the machine's fault, or one that need not come again: the next run tries
        reason = {"stage": error.stage, "error": error.error, "message": message}
        self.work.write_json(self.work.failure_file(entry.key), reason | {"attempts": entry.attempts})
        if self.sharing is not None:
            self.sharing.failed(entry, anew=True)

    def label(self) -> None:
        """Run the network over the prepared recordings together, and write their parts."""
        begun, self.now = time.monotonic(), "labelling" if self._ready else ""
        while self._ready:
            entries, recordings = self.next_ready()
            talks = [r.conversations() for r in recordings]
            with self.clock.stage("predict"):
                told = self.predictor.predict([c for t in talks for c in t], self.settings.batch_size)
            flat = iter(told)
            for entry, recording, conversations in zip(entries, recordings, talks, strict=True):
                found = [next(flat) for _ in conversations]
                predictions = [p for p in found if isinstance(p, Prediction)]
                fault = next((p for p in found if isinstance(p, RecordingError)), None)
                if fault is not None:
                    for copy in self._by_key[entry.key]:
                        self.fail(copy, fault)
                    continue
                with self.clock.stage("write"):
                    self.write_part(entry, recording, predictions)
                self.annotated += 1
        with self.clock.stage("write"):
            self.work.save_inputs(final=False)
            if self.sharing is not None:
                self.sharing.deliver()
        self.labelling_s += time.monotonic() - begun
        self.now = ""

    def next_ready(self) -> tuple[list[Entry], list[Prepared]]:
        """The next prepared recordings, only as many as the network takes at a time."""
        entries, recordings, rows = [], [], 0
        while self._ready and rows < self.predictor.most_utterances:
            entry = self._ready.popleft()
            prepared = Prepared.load(self.work.prepared_file(entry.key))
            if prepared is None:  # somebody has been at it since it was written or checked
                fault = RecordingError("worker", "damaged", "What was prepared of it was damaged: run again.")
                for copy in self._by_key[entry.key]:
                    self.fail(copy, fault)
                continue
            entries.append(entry)
            recordings.append(prepared)
            rows += len(prepared.utterances)
        return entries, recordings

    def write_part(self, entry: Entry, recording: Prepared, predictions: list[Prediction]) -> None:
        assert entry.file_id is not None
        whole = Prediction.joined(predictions, len(self.predictor.labels))
        of_recording = [f for f in recording.flags if f not in NOT_FOR_ROWS]
        quality = [
            list(dict.fromkeys([*u.flags, *of_recording, *told]))
            for u, told in zip(recording.utterances, doubts(whole), strict=True)
        ]
        part = table.rows(
            entry.file_id,
            recording.utterances,
            whole,
            self.predictor.labels,
            text_source=recording.text_source,
            language=recording.language,
            face_coverage=recording.face_coverage,
            quality=quality,
            model=self.predictor.name,
        )
        flags = list(recording.flags) + ([] if recording.utterances else ["no_speech"])
        facts = recording.facts(entry.path.name) | {"rows": len(part), "flags": flags}
        facts["file_id"] = entry.file_id
        for problem in recording.problems:
            said = media.escaped(problem["message"])
            log.warning("%s goes on without a transcript: %s", media.escaped(entry.file), said)
        for kind, chosen in {**recording.streams, **recording.beside}.items():
            log.debug("%s: %s: %s", media.escaped(entry.file), kind, media.escaped(chosen or "none"))
        table.write_part(self.work.part_file(entry.part), part, facts, self.work.scratch, recording.voices)
        self.work.failure_file(entry.key).unlink(missing_ok=True)
        if self.sharing is not None:
            self.sharing.made(entry)
