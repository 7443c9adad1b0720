"""Small changes made to the code, one at a time: how many of them do the tests of its own file notice?

    python -m benchmarks.mutation [--sample 60] [--seed 0] [--survivors] [GROUP...]

mutmut changes an operator, a number, a string, an argument ... of one function and runs the tests that reach
the function. A change is killed where one of them fails or they take four times as long, and survives
otherwise, also where no test reaches it. mutmut leaves out decorated functions and what stands outside of
functions. With ``--sample`` a random choice of a group's changes is tried; the standard error is that of the
choice, without replacement. Tests marked slow, and those of ``LEFT_OUT``, aren't run: the share is rather
too low than too high.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

from mutmut.configuration import reset_config
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = ROOT / "build" / "mutation"
LINKED = (
    "annotator",
    "model",
    "train",
    "tests",
    "examples",
    "benchmarks",
    "docs",
    "README.md",
    "pyproject.toml",
)
KILLED = ("killed", "timeout", "segfault")

# Patterns of the files that are changed, and the test files that are to notice.
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "utterances": (("annotator/utterances/*.py",), ("tests/test_utterances.py",)),
    "cues": (
        ("annotator/transcribe/cues.py",),
        ("tests/test_cues.py",),
    ),
    "evaluate": (("train/evaluate/*.py",), ("tests/test_evaluate.py", "tests/test_doubt.py")),
    "model": (
        ("model/*.py",),
        tuple(
            f"tests/test_model_{part}.py"
            for part in ("alignment", "checkpoint", "config", "gcn", "graph", "loss", "network")
        ),
    ),
    "table": (("annotator/table.py",), ("tests/test_table.py",)),
    "clustering": (("annotator/diarize/clustering.py",), ("tests/test_clustering.py",)),
    "loop": (("train/loop.py",), ("tests/test_loop.py",)),
}
# What takes seconds: each change that survives would wait for it. They could only kill more.
LEFT_OUT = (
    "tests/test_loop.py::test_training_killed_and_resumed_gives_the_same_weights",
    "tests/test_model_network.py::test_planted_signal_in_three_modalities",
    "tests/test_model_network.py::test_overfits_four_dialogues",
    "tests/test_utterances.py::test_what_always_holds",
    "tests/test_utterances.py::test_a_speaker_file_cannot_ask_for_endless_utterances",
    "tests/test_utterances.py::test_two_hours_without_a_pause_or_a_full_stop",
)


@dataclass(frozen=True)
class Tried:
    """The mutants of a group and what became of those that were tried."""

    group: str
    mutants: int
    status: dict[str, str]  # by the mutant's name
    diffs: dict[str, str]  # of those that were not killed

    @property
    def killed(self) -> int:
        return sum(status in KILLED for status in self.status.values())

    @property
    def late(self) -> int:
        """Killed ones whose tests took too long: where these are many, the tests hang by themselves."""
        return sum(status == "timeout" for status in self.status.values())

    @property
    def share(self) -> float:
        return self.killed / len(self.status)

    @property
    def error(self) -> float:
        """Standard error of the share: 0 where all mutants were tried."""
        run, rest = len(self.status), (self.mutants - len(self.status)) / max(1, self.mutants - 1)
        return math.sqrt(self.share * (1 - self.share) / run * rest)


def sources(group: str) -> list[Path]:
    patterns, _ = GROUPS[group]
    return sorted(p.relative_to(ROOT) for pattern in patterns for p in ROOT.glob(pattern))


def prepare(group: str) -> Path:
    """A folder to run mutmut in: links to the sources, and its configuration."""
    folder = SCRATCH / group
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    changed = [str(p) for p in sources(group)]
    top = changed[0].split("/")[0]
    settings: dict[str, Sequence[str]] = {
        "source_paths": [top],
        "only_mutate": changed,
        "also_copy": [name for name in LINKED if name != top],
        "pytest_add_cli_args_test_selection": GROUPS[group][1],
        "pytest_add_cli_args": ["-m", "not slow", "-p", "no:cacheprovider", "--hypothesis-profile=first"]
        + [f"--deselect={test}" for test in LEFT_OUT],
        "use_git_change_detection": ["false"],
        "track_dependencies": ["false"],
        # Forks of a process that has run no test: polars and torch hang in a fork of one that has.
        "process_isolation": ["forkserver"],
        # Processor seconds, so that a busy machine doesn't count: four times what the tests take, and twenty,
        # since each fork imports PyTorch anew, which takes several.
        "timeout_multiplier": ["2"],
        "timeout_constant": ["5"],
    }
    lines = [f"{name} = " + "\n    ".join(values) + "\n" for name, values in settings.items()]
    (folder / "setup.cfg").write_text("[mutmut]\n" + "".join(lines))
    return folder


def mutants_of(group: str) -> dict[str, Path]:
    """Names of all mutants of a group, with their files, which are written. Called in the group's folder."""
    from mutmut.__main__ import create_mutants_for_file  # it reads the configuration when it is imported

    for path in sources(group):
        changed = Path("mutants") / path
        changed.parent.mkdir(parents=True, exist_ok=True)
        create_mutants_for_file(path, changed)
    return {name: path for path in sources(group) for name in codes(path)}


def codes(path: Path) -> dict[str, int | None]:
    """Exit codes of a file's mutants; None for those that were not tried. Called in the group's folder."""
    written = json.loads((Path("mutants") / f"{path}.meta").read_text("utf-8"))
    found: dict[str, int | None] = written["exit_code_by_key"]
    return found


def try_group(group: str, sample: int | None, seed: int, only: str) -> Tried:
    folder = prepare(group)
    with contextlib.chdir(folder):
        reset_config()
        mutants = {name: path for name, path in mutants_of(group).items() if fnmatch(str(path), only)}
        names = sorted(mutants)
        if sample is not None and sample < len(names):
            names = sorted(random.Random(seed).sample(names, sample))
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names]
        with (folder / "log.txt").open("w") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
        if code:
            raise SystemExit(f"mutmut ended with {code}: {folder / 'log.txt'} says why.")
        ended = {name: code for path in set(mutants.values()) for name, code in codes(path).items()}
        status = {name: status_by_exit_code[ended[name]] for name in names}
        diffs = {
            name: get_diff_for_mutant(name, path=mutants[name])
            for name in names
            if status[name] not in KILLED
        }
    return Tried(group, len(mutants), status, diffs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--sample", type=int, help="mutants of a group that are tried (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--only", default="*", help="files of a group, as a pattern")
    parser.add_argument("--survivors", action="store_true", help="show what was not noticed")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    unknown = sorted(set(given.groups) - set(GROUPS))
    if unknown:
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")

    print(f"{'group':12} {'mutants':>8} {'run':>5} {'killed':>7} {'late':>5} {'survived':>9}   percent")
    figures: dict[str, dict[str, float]] = {}
    for group in given.groups or GROUPS:
        tried = try_group(group, given.sample, given.seed, given.only)
        run = len(tried.status)
        percent, error = 100 * tried.share, 100 * tried.error
        counts = f"{tried.mutants:8} {run:5} {tried.killed:7} {tried.late:5} {run - tried.killed:9}"
        print(f"{group:12} {counts}   {percent:.1f} +- {error:.1f}", flush=True)
        if given.survivors:
            for name, diff in tried.diffs.items():
                print(f"\n{name}: {tried.status[name]}\n{diff}", flush=True)
        figures[group] = {
            "mutants": tried.mutants,
            "run": run,
            "killed": tried.killed,
            "late": tried.late,
            "percent": round(percent, 1),
            "standard_error": round(error, 1),
        }
    print(
        json.dumps(
            {
                "groups": figures,
                "seed": given.seed,
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "versions": {"mutmut": version("mutmut")},
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
