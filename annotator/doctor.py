"""``annotate doctor``: what a run needs is tried out, and the command named that would improve it most.

Libraries are imported, folders written to, and four seconds of speech with a face in view, which ship with
the package, go through a whole run. Nothing is fetched.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from annotator import diarize, faces, media, threads, transcribe, weights, whisper_files
from annotator.device import resolve_device
from annotator.pipeline.stages import diarizer_settings, transcriber_settings
from annotator.records import AnnotateError
from annotator.settings import RunSettings
from annotator.terminal import counted

# A sentence out of examples/recordings/tv_clip.mkv; its README says how it was cut.
SAMPLE = Path(__file__).with_name("sample.mp4")
SHOWN = (
    "torch",
    "torchvision",
    "transformers",
    "ctranslate2",
    "opensmile",
    "opencv-python-headless",
    "polars",
)
OF_A_RUN = (
    "numpy", "scipy", "polars", "torch", "torchvision", "torchaudio", "torch_geometric", "safetensors",
    "transformers", "tokenizers", "ctranslate2", "cv2", "opensmile", "py3langid", "pysubs2",
)  # fmt: skip
# Found, not imported: that takes too long for a question.
OF_OTHER_COMMANDS = (
    "audformat", "fastexcel", "jinja2", "matplotlib", "peft", "praatio", "pyannote.audio", "pympi",
    "tensorboard",
)  # fmt: skip
LEAST_FREE_GB = 1.0  # an hour of sound takes 0.12
REINSTALL = "install conversation-annotator again"

State = Literal["ok", "limited", "failed"]


@dataclass(frozen=True)
class Check:
    """Something that was tried.

    Args:
        state: ``limited`` where runs work, but worse than they could; ``failed`` where they don't.
        message: what was found, for people.
        remedy: what to do about it, a command where there is one.
        seconds: that it took.
        figures: of the recording's stages, seconds each.
    """

    name: str
    state: State
    message: str
    remedy: str | None = None
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Backend:
    """One way to do a stage: what it lacks, and whether ``auto`` takes it here."""

    stage: str
    name: str
    problem: str | None
    taken: bool


@dataclass(frozen=True)
class Advice:
    """The one command that improves most, and why."""

    command: str
    why: str


@dataclass(frozen=True)
class Examination:
    """All that was found out about an installation."""

    version: str
    system: dict[str, Any]
    checks: list[Check]
    backends: list[Backend]
    advice: Advice | None

    @property
    def works(self) -> bool:
        return all(check.state != "failed" for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {"works": self.works} | asdict(self)

    def text(self) -> str:
        """A page of plain text."""
        s = self.system
        lines = [
            f"annotate {self.version}",
            f"Python {s['python']}, {s['platform']}, {counted(s['processors'], 'processor')}",
            ", ".join(f"{name} {found}" for name, found in s["libraries"].items()),
            "",
            "Tried",
        ]
        for check in self.checks:
            took = f" ({check.seconds:.1f} s)" if check.seconds >= 0.1 else ""
            lines.append(f"  {check.state:<8} {check.name:<10} {check.message}{took}")
            if check.figures:
                of = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in check.figures.items())
                lines.append(f"{'':<22}{of}")
            if check.remedy:
                lines.append(f"{'':<22}-> {check.remedy}")
        lines += [
            "",
            "Stages, best first; * marks what `auto` uses here. Files beside a recording go before both:",
        ]
        lines.append("speakers of an .rttm, words of .srt .vtt .ass .json .ctm ... or of its own subtitles.")
        stage = None
        for backend in self.backends:
            head = backend.stage if backend.stage != stage else ""
            stage = backend.stage
            availability = "available" if backend.problem is None else f"not available: {backend.problem}"
            lines.append(f"  {head:<10} {'*' if backend.taken else ' '} {backend.name:<11} {availability}")
        lines += ["", "Everything works." if self.works else "A run would not work here."]
        if self.advice:
            lines.append(f"What helps most now: {self.advice.command}\n  ({self.advice.why})")
        return "\n".join(lines)


def examine() -> Examination:
    """Try everything out. Takes half a minute on a CPU; raises nothing for what it finds."""
    checks = [libraries()]
    if checks[0].state == "failed":
        # Nothing else can be asked without them.
        return Examination(_version(), system(), checks, [], advice(checks, [], "cpu"))
    checks += [thread_count(), folders(), decoder(), *graphics()]
    device = "cpu" if any(c.name == "GPU" and c.state == "failed" for c in checks) else _device()
    if checks[1].state != "failed":  # else no run begins
        checks.append(recording(SAMPLE, device))
    stages = backends(device)
    return Examination(_version(), system(), checks, stages, advice(checks, stages, device))


def system() -> dict[str, Any]:
    """Versions and sizes, for people who are asked for help."""
    from annotator.pipeline.shaping import installed

    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processors": threads.processors(),
        "libraries": installed(SHOWN),
    }


def thread_count() -> Check:
    """What a process of a run may have of the processors."""
    try:
        return Check("threads", "ok", f"{threads.most()} at most in one process")
    except AnnotateError as error:
        return Check("threads", "failed", str(error), f"unset {threads.OPENMP}")


def libraries(needed: Iterable[str] = OF_A_RUN, later: Iterable[str] = OF_OTHER_COMMANDS) -> Check:
    """Import those that every run needs, and find the others."""
    started = time.monotonic()
    count = 0
    for name in needed:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken library raises
            return Check("libraries", "failed", f"{name} can't be imported: {_sentence(error)}", REINSTALL)
        count += 1
    missing = [name for name in later if not _is_there(name)]
    took = time.monotonic() - started
    if missing:
        message = f"{count} imported; missing: {', '.join(missing)}, which some commands need"
        return Check("libraries", "limited", message, REINSTALL, took)
    return Check("libraries", "ok", f"{count} imported", None, took)


def folders() -> Check:
    """Write to the folder of temporary files, the cache and the current folder."""
    temporary = Path(tempfile.gettempdir())
    try:
        _write(temporary)
        free_gb = shutil.disk_usage(temporary).free / 1e9
    except OSError as error:
        message = f"no temporary file can be written in {temporary} ({error.strerror})"
        return Check("disk", "failed", message, "set TMPDIR to a folder to write to")
    if free_gb < LEAST_FREE_GB:
        message = f"{free_gb:.1f} GB left for temporary files; an hour of sound takes 0.12 GB for each worker"
        return Check("disk", "limited", message, "set TMPDIR to a folder with more room")
    cache = weights.cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _write(cache)
    except OSError as error:
        message = f"{cache} can't be written ({error.strerror}): nothing that is downloaded or joined is kept"
        return Check("disk", "limited", message, "set ANNOTATE_CACHE to a folder to write to")
    try:
        _write(Path.cwd())
    except OSError as error:
        message = f"the current folder can't be written ({error.strerror})"
        return Check("disk", "limited", message, "write tables elsewhere: --out FOLDER/labels.parquet")
    return Check("disk", "ok", f"temporary files, cache and current folder take files; {free_gb:.0f} GB free")


def decoder() -> Check:
    """Which ffmpeg, and what it is held to."""
    try:
        version = f"{media.ffmpeg_version()}, {media.ffmpeg_path()}"
    except AnnotateError as error:
        return Check("ffmpeg", "failed", str(error), "pip install imageio-ffmpeg")
    abi = media.landlock_abi()
    held = f"Landlock ABI {abi}" if abi else "no Landlock here"
    return Check("ffmpeg", "ok", f"{version}; in a child process with limits, {held}")


def graphics() -> list[Check]:
    """A small batch on every GPU that PyTorch sees."""
    import torch

    count = torch.cuda.device_count()
    if count:
        return [small_batch(f"cuda:{i}", torch.cuda.get_device_name(i)) for i in range(count)]
    if Path("/proc/driver/nvidia/version").exists():
        message = f"an NVIDIA driver is here, and torch {torch.__version__} can't use it; runs go on the CPU"
        return [Check("GPU", "limited", message, "install the torch that fits the driver, or a newer driver")]
    return [Check("GPU", "ok", "none; runs go on the CPU")]


def small_batch(device: str, name: str) -> Check:
    """Convolve and multiply on a device, and compare with the CPU."""
    import torch

    started = time.monotonic()
    maker = torch.Generator().manual_seed(0)
    pictures = torch.randn(8, 3, 32, 32, generator=maker)
    kernels = torch.randn(16, 3, 3, 3, generator=maker)

    def worked(where: str) -> torch.Tensor:
        maps = torch.nn.functional.conv2d(pictures.to(where), kernels.to(where)).flatten(1)
        return (maps @ maps.T).cpu()

    remedy = "--device cpu works meanwhile; PyTorch's installation page tells the torch that fits your driver"
    try:
        same = torch.allclose(worked(device), worked("cpu"), rtol=1e-2, atol=1e-1)
    except (RuntimeError, AssertionError) as error:  # PyTorch raises either for a device that fails
        return Check("GPU", "failed", f"{name}: {_sentence(error)}", remedy)
    if not same:
        return Check("GPU", "failed", f"{name} does not compute what the CPU does", remedy)
    return Check("GPU", "ok", f"{name} computes what the CPU does", None, time.monotonic() - started)


def recording(sample: Path, device: str) -> Check:
    """One recording through a whole run, in a folder of its own, from decoding to the table."""
    import polars as pl

    from annotator.pipeline import run

    started = time.monotonic()

    def failed(message: str, remedy: str | None = None) -> Check:
        return Check("recording", "failed", message, remedy, time.monotonic() - started)

    with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
        out = Path(scratch) / "labels.parquet"
        try:
            result = run([sample], out, RunSettings(offline=True, workers=1, device=device), progress=False)
            if result.failures:
                first = result.failures[0]
                return failed(f"stage {first['stage']}: {first['message']} ({first['error']})")
            (about,) = pl.read_parquet(out.with_suffix(".recordings.parquet")).to_dicts()
        except AnnotateError as error:  # it says what to do
            return failed(str(error))
        except Exception as error:  # what breaks here breaks every run
            return failed(
                f"{type(error).__name__}: {_sentence(error)}", "annotate run FILE --verbose tells more"
            )
    rows = result.table.to_dicts() if result.table is not None else []
    if not rows:
        return failed("no utterance was found where somebody speaks", REINSTALL)
    prefix = "seconds_"
    figures = {k.removeprefix(prefix): v for k, v in about.items() if k.startswith(prefix) and v}
    row = rows[0]
    took = time.monotonic() - started
    lacking = [name for name in ("text", "audio", "face") if not row[f"has_{name}"]]
    heard = f'"{row["text"]}": {row["emotion"]}, {row["confidence"]:.0%}' if row["text"] else row["emotion"]
    if lacking:
        message = f"{about['duration_s']:.0f} s through all stages, without {', '.join(lacking)}: {heard}"
        return Check("recording", "limited", message, REINSTALL, took, figures)
    return Check(
        "recording", "ok", f"{about['duration_s']:.0f} s through all stages: {heard}", None, took, figures
    )


def backends(device: str) -> list[Backend]:
    """What each stage could use here, best first."""
    settings = RunSettings(offline=True)
    for_turns, for_words = diarizer_settings(settings, device), transcriber_settings(settings, device)
    stages: dict[str, tuple[tuple[str, ...], Callable[[str], str | None]]] = {
        "speakers": (("pyannote", "embedded"), lambda name: diarize.available(name, for_turns)),
        "words": (("whisper", "none"), lambda name: transcribe.available(name, for_words)),
        "faces": (("yunet", "centerface"), lambda name: faces.missing(name, weights.yunet_file())),
        "labels": (("starter",), _checkpoint),
    }
    found = []
    for stage, (names, lacks) in stages.items():
        taken = False
        for name in names:
            problem = lacks(name)
            found.append(Backend(stage, name, problem, problem is None and not taken))
            taken = taken or problem is None
    return found


def advice(checks: Iterable[Check], found: Iterable[Backend], device: str) -> Advice | None:
    """What to do first: mend what fails, then what is limited, then get the part that helps labels most."""
    listed = list(checks)
    for state in ("failed", "limited"):
        for check in listed:
            if check.state == state:
                return Advice(check.remedy or "annotate doctor --json", f"{check.name}: {check.message}")
    # Words say most about emotion, and what is recognised wrongly costs a quarter of the score.
    if not whisper_files.download_for(device).is_here:
        return Advice("annotate download whisper", "a larger recogniser: fewer wrong words, so better labels")
    wanting = {backend.name for backend in found if backend.problem}
    if "pyannote" in wanting:
        return Advice(
            "annotate download pyannote", "a better diarizer, free with an account at its model hub"
        )
    if "yunet" in wanting:
        return Advice("annotate download yunet", "a face detector that finds more and smaller faces")
    return None


def _checkpoint(name: str) -> str | None:
    try:
        weights.checkpoint_folder(name)
    except AnnotateError as error:
        return str(error)
    return None


def _device() -> str:
    return resolve_device("auto")


def _version() -> str:
    return importlib.metadata.version("conversation-annotator")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def _write(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(1 << 16))
        file.flush()
        os.fsync(file.fileno())


def _sentence(error: BaseException) -> str:
    """The first line of what a library says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
