"""Hostile recordings through the real command: nothing leaks, nothing calls out, nothing stops the batch."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from annotator import media
from annotator.media import child

from . import hostile

TOKEN = "hf_CANARYf00dfeed0123456789abcdef"
ATTEMPTS = "SOCKET_ATTEMPTS"
# Runs in every Python process of the command: notes each use of the network, and each name looked up.
TRAP = f"""
import os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        local = not isinstance(arguments[1], tuple) or arguments[1][0] in ("127.0.0.1", "::1")
        if local and event != "socket.connect":
            return  # how libraries find out whether there is IPv6
    elif not event.startswith("socket.get") or event == "socket.gethostname":
        return
    with open(os.environ["{ATTEMPTS}"], "a") as file:
        file.write(f"{{event}} {{arguments[1:]}}\\n")
sys.addaudithook(note)
"""


class Listener:
    """A port of this machine, on TCP and UDP, that notes whether anyone calls."""

    def __init__(self) -> None:
        self.calls = 0
        while True:
            tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
            tcp.bind(("127.0.0.1", 0))
            self.port: int = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", self.port))
                break
            except OSError:  # taken by someone else
                tcp.close()
                udp.close()
        tcp.listen()
        self._sockets = tcp, udp

    def heard(self) -> bool:
        """Whether anyone has called until now."""
        tcp, udp = self._sockets
        tcp.setblocking(False)
        udp.setblocking(False)
        for ask in (tcp.accept, lambda: udp.recv(1)):
            try:
                ask()
            except BlockingIOError:
                continue
            return True
        return False

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@dataclass
class Ended:
    """A run over the corpus, with what it left."""

    corpus: hostile.Corpus
    out: Path
    code: int
    said: str
    attempts: str
    heard: bool
    arguments: set[bytes]  # command lines of all processes that were seen meanwhile


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.close()


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Iterator[Ended]:
    base = tmp_path_factory.mktemp("hostile")
    one = Listener()
    corpus = hostile.make(base / "corpus", ffmpeg, one.port)
    (base / "trap").mkdir()
    (base / "trap" / "sitecustomize.py").write_text(TRAP)
    out, attempts = base / "out" / "labels.parquet", base / "attempts"
    attempts.touch()
    command = [sys.executable, "-m", "annotator", "run", str(corpus.root), "--out", str(out), "--offline"]
    environment = {
        "PYTHONPATH": os.pathsep.join([str(base / "trap"), str(Path(__file__).resolve().parents[1])]),
        ATTEMPTS: str(attempts),
        "HF_TOKEN": TOKEN,
        "HUGGING_FACE_HUB_TOKEN": TOKEN,
        "HF_HOME": str(base / "hub"),
        "TMPDIR": str(base / "temporary"),
    }
    (base / "temporary").mkdir()
    more = ["--workers", "1", "--verbose", "--report", str(base / "out" / "labels.html")]
    seen: set[bytes] = set()
    done = threading.Event()
    watch = threading.Thread(target=_note_arguments, args=(seen, done))
    watch.start()
    try:
        process = subprocess.run(
            [*command, *more], capture_output=True, timeout=900, env=os.environ | environment, cwd=base
        )
        heard = one.heard()
    finally:
        done.set()
        watch.join()
        one.close()
    said = (process.stdout + process.stderr).decode()
    yield Ended(corpus, out, process.returncode, said, attempts.read_text(), heard, seen)
    shutil.rmtree(corpus.root)  # holds pipes and loops that others may stumble on


def _note_arguments(seen: set[bytes], done: threading.Event) -> None:
    while not done.wait(0.05):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                seen.add((folder / "cmdline").read_bytes())
            except OSError:
                continue  # it has ended


def test_every_entry_is_a_row_or_a_reason(ended: Ended) -> None:
    corpus = ended.corpus
    assert ended.code == 3, ended.said
    record = json.loads(ended.out.with_suffix(".run.json").read_text())
    recordings = {r["file"]: r for r in record["recordings"]}
    failed = {name for name, r in recordings.items() if r["part"] is None}
    assert set(recordings) == corpus.failing | corpus.annotated | corpus.either
    assert corpus.failing <= failed, corpus.failing - failed
    assert not failed & corpus.annotated, {n: recordings[n]["failure"] for n in failed & corpus.annotated}
    for name, flag in corpus.flags.items():
        assert flag in recordings[name]["flags"], name
    listed = pl.read_csv(ended.out.with_suffix(".failures.csv"))
    assert len(listed) == len(failed) and listed["message"].null_count() == 0
    # Found out, not run into.
    assert not {"internal", "worker_died", "out_of_memory", "timeout"} & set(listed["error"])
    assert "Traceback" not in ended.said


def test_nothing_of_others_is_shown(ended: Ended) -> None:
    assert hostile.CANARY not in ended.said and TOKEN not in ended.said
    written = [path for path in ended.out.parent.rglob("*") if path.is_file()]
    assert len(written) > 20
    for path in written:
        content = path.read_bytes()
        assert hostile.CANARY.encode() not in content, path
        assert TOKEN.encode() not in content, path
    texts = pl.read_parquet(ended.out)["text"].drop_nulls()
    assert len(texts) and not texts.str.contains(hostile.CANARY, literal=True).any()


def test_the_token_stays_in_the_environment(ended: Ended) -> None:
    ours = [line for line in ended.arguments if b"annotator" in line or b"ffmpeg" in line]
    assert any(b"sandbox.py" in line or b"-format_whitelist" in line for line in ours), "no decoder was seen"
    assert not any(TOKEN.encode() in line for line in ended.arguments)
    hub = ended.out.parent.parent / "hub"
    assert not [p for p in hub.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]


def test_nobody_is_called(ended: Ended) -> None:
    assert ended.attempts == ""
    assert not ended.heard
    assert "canary-host" not in ended.said


def test_the_terminal_and_the_page_get_plain_text(ended: Ended) -> None:
    assert all(letter.isprintable() or letter in "\n\t" for letter in ended.said.replace("\r", "\n"))
    page = ended.out.with_suffix(".html").read_text("utf-8")
    for written in ("<script>alert", "<img src=x", "</script><script>"):
        assert written not in page


def test_nothing_is_left_in_the_folders(ended: Ended) -> None:
    assert not [p for p in ended.out.parent.rglob("*") if ".tmp" in p.name or ".lock" in p.name]
    assert not (ended.out.with_suffix(".work") / "scratch").exists()
    assert not list(ended.corpus.root.rglob("pwned"))
    assert not list((ended.out.parent.parent / "temporary").iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can forbid a child its sockets")
def test_the_decoder_makes_no_socket(listener: Listener) -> None:
    """Also with every protocol allowed: the kernel refuses, before a name is looked up."""
    for url in (f"http://127.0.0.1:{listener.port}/x", f"udp://127.0.0.1:{listener.port}?listen=0"):
        arguments = ["-nostdin", "-protocol_whitelist", "http,tcp,udp", "-i", url, "-f", "null", "-"]
        log = child.run(
            lambda _, arguments=arguments: arguments,  # type: ignore[misc]
            [],
            read=None,
            wall_s=20,
            limits=media.Limits(),
            stage="probe",
        )
        assert log.status != 0
    out = ["-nostdin", "-f", "lavfi", "-i", "sine=d=1", "-f", "mpegts", f"udp://127.0.0.1:{listener.port}"]
    ended = child.run(lambda _: out, [], read=None, wall_s=20, limits=media.Limits(), stage="probe")
    assert ended.status != 0
    assert not listener.heard()
