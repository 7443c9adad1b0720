"""What ``annotate run --profile`` tells: where the time of a run went, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from annotator.pipeline.timing import Shift, Spent
from annotator.terminal import counted

# In the order of a recording's way. What a worker does for each, and the rest.
PREPARING = {
    "decode": "decoding",
    "transcribe": "recognition",
    "diarize": "diarization",
    "utterances": "cutting utterances",
    "voices": "comparing voices",
    "faces": "finding faces",
    "encode_text": "the text encoder",
    "encode_audio": "the voice encoder",
    "encode_face": "the face encoder",
}
NAMES = {
    "load": "loading",
    "find": "looking at the inputs",
    **PREPARING,
    "predict": "the network",
    "write": "writing",
}
HELD_UP = 0.5  # share of a stage's time with a processor: with less, something else held it up


@dataclass(frozen=True)
class Profile:
    """Where the time of a run went, or of one shard of it."""

    shard: tuple[int, int] | None
    wall_s: float
    sound_s: float  # length of the recordings that workers prepared
    processors: int  # that the run may use, on all nodes of a cluster
    threads: int  # of a worker
    stages: Mapping[str, Spent]  # of all processes together
    workers: Sequence[Shift]
    labelling_s: float  # the network and the writing of what it says, while which no worker gets a recording
    network_waited_s: float  # for recordings that workers had in hand

    @property
    def limits(self) -> str:
        """What limits the run, in one sentence."""
        workers = [w for w in self.workers if w.recordings]
        if not workers and "predict" not in self.stages:
            return "Nothing limits this run: no recording was left to annotate."
        loading = max((w.loading.wall for w in workers), default=0.0)
        busy = sum(w.busy.wall for w in workers)
        side_by_side = busy / max(1, len(workers))
        of_run = f"of the {self.wall_s:.1f} s of the run"
        if self.labelling_s > max(loading, side_by_side):
            waited = sum(w.waited_s for w in workers)
            return (
                f"The network limits this run: with writing its labels it took {self.labelling_s:.1f} s "
                f"{of_run}, and the workers waited {waited:.1f} s."
            )
        if loading > side_by_side:
            return (
                f"Loading limits this run: a worker took {loading:.1f} s {of_run} to load its models, once "
                "for all its recordings."
            )
        stage = max(PREPARING, key=lambda name: self.stages.get(name, Spent()).wall)
        spent = self.stages.get(stage, Spent())
        with_processor = ""
        if spent.processor < HELD_UP * spent.wall:
            with_processor = f" ({spent.processor:.1f} s of them with a processor)"
        return (
            f"What limits this run is {NAMES[stage]}: it took {spent.wall:.1f} s{with_processor} of the "
            f"{busy:.1f} s that workers were busy, and the network waited {self.network_waited_s:.1f} s for "
            "them."
        )

    @property
    def speed(self) -> float:
        """Seconds of sound a second on the clock."""
        return self.sound_s / self.wall_s

    def shares(self) -> dict[str, float]:
        """Of each stage in the seconds on the clock that all processes worked, in the order of the work."""
        whole = sum(spent.wall for spent in self.stages.values())
        return {name: self.stages[name].wall / whole for name in NAMES if name in self.stages and whole}

    def record(self) -> dict[str, Any]:
        """As JSON values, for the record of the run."""
        return {
            "shard": self.shard,
            "wall_seconds": round(self.wall_s, 3),
            "sound_seconds": round(self.sound_s, 3),
            "sound_seconds_per_second": round(self.speed, 3),
            "processors": self.processors,
            "threads": self.threads,
            "stages": {
                name: {**_rounded(self.stages[name]), "share": round(share, 4)}
                for name, share in self.shares().items()
            },
            "workers": [
                {
                    "loading": _rounded(worker.loading),
                    "busy": _rounded(worker.busy),
                    "waited": round(worker.waited_s, 3),
                    "recordings": worker.recordings,
                }
                for worker in self.workers
            ],
            "network": {"busy": round(self.labelling_s, 3), "waited": round(self.network_waited_s, 3)},
            "limits": self.limits,
        }

    def lines(self) -> list[str]:
        """The same for people."""
        table = [("stage", "wall s", "processor s", "share")]
        for name, share in self.shares().items():
            spent = self.stages[name]
            table.append((NAMES[name], f"{spent.wall:.2f}", f"{spent.processor:.2f}", f"{share:.0%}"))
        lines = [f"{stage:22}{wall:>10}{processor:>13}{share:>7}" for stage, wall, processor, share in table]
        for number, worker in enumerate(self.workers, start=1):
            lines.append(
                f"worker {number}: loaded {worker.loading.wall:.1f} s, busy {worker.busy.wall:.1f} s with "
                f"{counted(worker.recordings, 'recording')}, waited "
                f"{worker.waited_s:.1f} s for the next"
            )
        busy, waited = self.labelling_s, self.network_waited_s
        lines.append(f"network: busy {busy:.1f} s with its writing, waited {waited:.1f} s for workers")
        lines.append(
            f"{self.sound_s:.1f} s of sound in {self.wall_s:.1f} s: {self.speed:.2f} s a second, with "
            f"{counted(self.threads, 'thread')} a worker and "
            f"{counted(self.processors, 'processor')}"
        )
        return [*lines, self.limits]


def _rounded(spent: Spent) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in asdict(spent).items()}
