"""Run ffmpeg in a sandboxed child: where it is, what it may use, and how its pipes are read."""

from __future__ import annotations

import fcntl
import functools
import importlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from annotator.awake import STEP_S, Awake
from annotator.media import sandbox
from annotator.records import RATE_HZ, RecordingError, SetupError
from annotator.terminal import escaped

# Demuxers that read one file and nothing else. Playlists and scripts (hls, dash, concat) would open other
# recordings, whatever the name of the file that holds them; a protocol whitelist does not stop that.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,wav,mp3,flac,ogg,aac,asf,flv,"
DEMUXERS += "aiff,caf,au,w64,wv,amr,ac3,eac3,dts,dtshd,mxf,ape,tta,dv"
DECODE_THREADS = 4
_CHUNK_BYTES = 1 << 20  # the largest pipe that an ordinary user may ask for, and what one read takes
_LOG_HEAD_BYTES = 256 << 10
_LOG_TAIL_LINES = 40
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store")
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH")  # all else, tokens above all, stays with the parent
_EMPTY_PHRASES = ("Error opening input", "At least one", "Estimating duration", "Input #")  # give no reason
_REMEDY = "Install ffmpeg, or `pip install imageio-ffmpeg`, or set ANNOTATE_FFMPEG to an ffmpeg that runs."


@dataclass(frozen=True)
class Limits:
    """What reading one recording may cost. Wall-clock times leave out the work on its frames, and the time in
    which this process is stopped.
    """

    probe_s: float = 60.0
    decode_s: float = 60.0  # for any recording, and in addition
    decode_s_per_s: float = 4.0  # for each second that it declares, as far as its size bears that out
    decode_max_s: float = 86_400.0  # at most, and when it declares no duration
    stall_s: float = 600.0  # without anything from ffmpeg
    least_bytes_per_s: int = 25  # fewer hold no second of sound; whoever declares more is not believed
    cpu_s: int = 172_800
    address_bytes: int = 8 << 30
    audio_bytes: int = 4 << 30  # of the decoded sound: 37 hours
    text_bytes: int = 64 << 20  # of one subtitle stream
    max_pixels: int = 33_177_600  # of a picture: 7680 x 4320
    max_streams: int = 32

    @property
    def longest_s(self) -> float:
        """The longest recording that is decoded."""
        return self.audio_bytes / (2 * RATE_HZ)

    def decode_wall_s(self, duration_s: float | None, size_bytes: int | None = None) -> float:
        """Seconds that decoding a recording of the declared ``duration_s`` may take."""
        if duration_s is None:
            return self.decode_max_s
        if size_bytes is not None:
            duration_s = min(duration_s, size_bytes / self.least_bytes_per_s)
        return min(self.decode_max_s, self.decode_s + self.decode_s_per_s * duration_s)


@dataclass(frozen=True)
class Ended:
    """How ffmpeg ended: its exit status and what it said, line by line, cut in the middle when long."""

    status: int
    log: tuple[str, ...]
    lacks: str | None = None  # what this machine can't take away from ffmpeg, for people


def ffmpeg_path() -> str:
    """The ffmpeg to use: ANNOTATE_FFMPEG, else the system's, else the one of the imageio-ffmpeg package.

    A candidate counts when it runs inside the sandbox, which a wrapper script or a snap does not.

    Raises:
        SetupError: there is none, or ANNOTATE_FFMPEG names something else.
    """
    return _choose(os.environ.get("ANNOTATE_FFMPEG"), os.environ.get("PATH"))


def ffmpeg_version() -> str:
    """The version that the ffmpeg in use tells, such as ``7.0.2-static``. Raises: SetupError as above."""
    ended = _banner(ffmpeg_path())
    match = re.search(r"ffmpeg version (\S+)", "\n".join(ended.log))
    return match[1] if match else "unknown"


def sandbox_lacks() -> str | None:
    """What this machine can't take away from ffmpeg, for people; None where it is all. Raises: SetupError."""
    return _banner(ffmpeg_path()).lacks


@functools.lru_cache(maxsize=8)
def _banner(program: str) -> Ended:
    # Without arguments it prints its banner where the log is read.
    return run(lambda _: [], [], read=None, wall_s=60.0, limits=Limits(), stage="probe", program=program)


@functools.lru_cache(maxsize=8)
def _choose(preferred: str | None, search_path: str | None) -> str:
    if preferred:
        path = os.path.abspath(shutil.which(preferred, path=search_path) or preferred)
        fault = _fault_of(path)
        if fault is not None:
            raise SetupError(f"ANNOTATE_FFMPEG is {preferred!r}, which does not run: {fault}. {_REMEDY}")
        return path
    faults = []
    for candidate in (shutil.which("ffmpeg", path=search_path), _bundled()):
        if candidate is not None:
            path = os.path.abspath(candidate)
            fault = _fault_of(path)
            if fault is None:
                return path
            faults.append(f"{path}: {fault}")
    raise SetupError(" ".join(["No ffmpeg was found that runs.", *faults, _REMEDY]))


def _bundled() -> str | None:
    """The binary of imageio-ffmpeg; None when the package or its binary for this platform is absent."""
    try:
        package = importlib.import_module("imageio_ffmpeg")
        return str(package.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def _fault_of(path: str) -> str | None:
    """Why this ffmpeg can't be used, or None when it can."""
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        return "it is not a program"
    try:
        ended = run(
            lambda _: ["-version"], [], read=None, wall_s=60.0, limits=Limits(), stage="probe", program=path
        )
    except (SetupError, RecordingError) as error:
        return str(error)
    return None if ended.status == 0 else f"`ffmpeg -version` ends with status {ended.status}"


def input_options(limits: Limits) -> dict[str, str | int | None]:
    """Options that go before the input of every ffmpeg command; None marks a switch without a value."""
    return {
        "nostdin": None,
        "hide_banner": None,
        "nostats": None,
        "loglevel": "info",
        "protocol_whitelist": "file",
        "format_whitelist": DEMUXERS,
        "max_streams": limits.max_streams,
        "probesize": 5_000_000,
        "analyzeduration": 10_000_000,
        "max_pixels": limits.max_pixels,
        "max_alloc": 1 << 30,
        # ffmpeg would call the third of six nameless microphones the subwoofer, and leave it out of a mix.
        "guess_layout_max": 2,
    }


def input_url(path: Path) -> str:
    """``file:`` and the absolute path, so that no name is taken for a protocol, an option or a pattern."""
    return "file:" + os.path.abspath(path)


def run(
    arguments: Callable[[Sequence[str]], Sequence[str]],
    sinks: Sequence[Callable[[bytes], None]],
    *,
    read: Path | None,
    wall_s: float,
    limits: Limits,
    stage: str,
    on_line: Callable[[str], None] | None = None,
    program: str | None = None,
    stall_s: float | None = None,
) -> Ended:
    """Run ffmpeg until it ends, handing what it writes to ``sinks`` as it comes, all in this thread.

    Args:
        arguments: makes ffmpeg's arguments from one output URL for each sink.
        sinks: each gets the bytes of its own pipe. When one raises, ffmpeg is killed and the error goes on.
        read: the only recording that the child may open.
        wall_s: seconds to wait for it in total; the time spent inside sinks does not count.
        stage: named in the errors.
        on_line: gets each line of ffmpeg's log.
        program: the ffmpeg, if not :func:`ffmpeg_path`.
        stall_s: how long it may give nothing; as long as ``wall_s`` by default.

    Raises:
        RecordingError: ``timeout``, or ``decoder_killed`` when a signal ended it (a crash or a limit).
        SetupError: it could not be started.
    """
    program = program or ffmpeg_path()
    folder = os.path.dirname(os.path.realpath(program))
    libraries = [entry for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry]
    rules = {
        "parent": os.getpid(),
        "address_bytes": limits.address_bytes,
        "cpu_s": min(limits.cpu_s, int(wall_s * DECODE_THREADS) + 10),
        "read": ["/etc/ld.so.cache", *([os.path.abspath(read)] if read else [])],
        "run": [os.path.realpath(program), os.path.join(folder, "..", "lib"), *_LIBRARY_FOLDERS, *libraries],
    }
    launcher = [sys.executable, "-I", "-S", sandbox.__file__, json.dumps(rules), program]
    log = _Log(on_line)
    pipes: list[int] = []  # our ends
    child_ends: list[int] = []
    child: subprocess.Popen[bytes] | None = None
    try:
        for _ in sinks:
            our_end, child_end = os.pipe()
            pipes.append(our_end)
            child_ends.append(child_end)
            _widen(our_end)
        child = subprocess.Popen(
            [*launcher, *arguments([f"pipe:{number}" for number in child_ends])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=child_ends,
            start_new_session=True,  # a terminal's interrupt is ours to handle, and the group ours to kill
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
            | {"LC_ALL": "C.UTF-8"},
            cwd="/",
        )
        while child_ends:
            os.close(child_ends.pop())
        assert child.stderr is not None
        readers = [(child.stderr.fileno(), log.feed), *zip(pipes, sinks, strict=True)]
        stall_s = wall_s if stall_s is None else stall_s
        if not (_drain(readers, wall_s, stall_s) and _ends(child, min(wall_s, limits.stall_s))):
            raise RecordingError(
                stage,
                "timeout",
                f"ffmpeg was stopped: it took longer than {wall_s:.0f} s over this recording, or gave "
                f"nothing for {stall_s:.0f} s.",
            )
    except OSError as error:
        if child is None:
            raise SetupError(f"ffmpeg can't be started: {error}. {_REMEDY}") from error
        raise
    finally:
        if child is not None:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            assert child.stderr is not None
            child.stderr.close()
        for number in (*pipes, *child_ends):
            os.close(number)
    return _judge(child.returncode, log, stage)


def _judge(status: int, output: _Log, stage: str) -> Ended:
    """Tell a sandbox that would not start from a decoder that was killed or ended by itself."""
    log = output.lines()
    if status == sandbox.REFUSED or status == 127:
        for line in log:
            if line.startswith(sandbox.MARK) or "error while loading shared libraries" in line:
                raise SetupError(f"ffmpeg can't be started in its sandbox: {line}. {_REMEDY}")
    if status < 0:
        name = signal.Signals(-status).name
        raise RecordingError(
            stage,
            "decoder_killed",
            f"ffmpeg was ended by {name} while it read this recording (a crash or a limit).",
        )
    return Ended(status, log, output.lacks)


def _drain(readers: Sequence[tuple[int, Callable[[bytes], None]]], wall_s: float, stall_s: float) -> bool:
    """Read all pipes to their ends; whether they came within ``wall_s``, and something every ``stall_s``."""
    waited = stalled = 0.0
    with selectors.DefaultSelector() as selector:
        for number, sink in readers:
            selector.register(number, selectors.EVENT_READ, sink)
        while selector.get_map():
            clock = Awake()
            ready = selector.select(min(STEP_S, max(0.0, wall_s - waited)))
            passed = clock.seconds()
            waited, stalled = waited + passed, 0.0 if ready else stalled + passed
            if waited > wall_s or stalled > stall_s:
                return False
            for key, _ in ready:
                data = os.read(key.fd, _CHUNK_BYTES)
                if data:
                    key.data(data)
                else:
                    selector.unregister(key.fd)
    return True


def _ends(child: subprocess.Popen[bytes], within_s: float) -> bool:
    """Whether a child that has closed its pipes ends."""
    clock = Awake()
    while clock.seconds() <= within_s:
        try:
            child.wait(STEP_S)
        except subprocess.TimeoutExpired:
            continue
        return True
    return False


def _widen(pipe: int) -> None:
    """Let ffmpeg write ahead while a frame is worked on."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)
        except PermissionError:
            pass  # the user's share of pipe memory is used up; the ordinary size serves, only slower


class _Log:
    """ffmpeg's log: every line goes to ``on_line``; the first 256 KiB and the last 40 lines are kept."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._part = b""
        self._head: list[str] = []
        self._head_bytes = 0
        self._tail: deque[str] = deque(maxlen=_LOG_TAIL_LINES)
        self._begun = False
        self.lacks: str | None = None  # the launcher's line, where it is the first

    def feed(self, data: bytes) -> None:
        *whole, self._part = (self._part + data).split(b"\n")
        for line in whole:
            self._take(line)
        if len(self._part) > _LOG_HEAD_BYTES:  # a line that never ends is cut, not collected
            self._take(self._part)
            self._part = b""

    def _take(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace")
        first, self._begun = not self._begun, True
        if first and line.startswith(sandbox.LACKS):
            self.lacks = line.removeprefix(sandbox.LACKS)
            return
        if self._on_line is not None:
            self._on_line(line)
        if self._head_bytes < _LOG_HEAD_BYTES:
            self._head.append(line)
            self._head_bytes += len(raw) + 1
        else:
            self._tail.append(line)

    def lines(self) -> tuple[str, ...]:
        if self._part:
            self._take(self._part)
            self._part = b""
        return (*self._head, *self._tail)


def reason(log: Sequence[str], path: Path) -> str:
    """What ffmpeg gives as its reason: one short sentence without addresses, control characters or paths."""
    url = input_url(path)
    hidden = {url, url.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), os.path.abspath(path)}
    text = "\n".join(log)
    for name in sorted(hidden, key=len, reverse=True):
        text = text.replace(name, "the file")
    for line in text.split("\n"):
        line = re.sub(r"^(\[[^\]]* @ 0x[0-9a-f]+\]\s*)+", "", line).strip()
        line = re.sub(r"^(the file|Error opening input): ", "", line)
        if "Format not on whitelist" in line:
            return "its content is not of a kind that is decoded (a playlist, a picture or a text)"
        if line and "misdetection possible" not in line and not line.startswith(_EMPTY_PHRASES):
            return escaped(line)[:200]
    return "ffmpeg gives no reason"
