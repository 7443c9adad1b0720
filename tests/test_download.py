"""``annotate download`` against a local server that answers like the model hub."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import pytest

from annotator import fetch, offline
from annotator.diarize.weights import PYANNOTE_FILES, PYANNOTE_MODEL, PYANNOTE_REVISION
from annotator.records import AnnotateError, SetupError
from annotator.whisper_files import MODEL, SMALL

TOKEN = "hf_canary_0123456789"


class Hub(ThreadingHTTPServer):
    """Repositories of files; large ones are listed by SHA-256, small ones by git's hash, as the hub does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.break_off: dict[str, int] = {}  # file: bytes after which the connection ends, once
        self.requests: list[tuple[str, str | None, str | None]] = []  # path, range, authorization

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.requests.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        parts = path.split("/")
        name = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2])
        files = self.server.repositories.get(name)
        if files is None:
            return self.answer(404, b"")
        if name in self.server.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
        if parts[0] == "api":
            return self.answer(200, json.dumps([self.entry(f, c) for f, c in files.items()]).encode())
        file = "/".join(parts[4:])
        content = files[file]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        end = self.server.break_off.pop(file, len(content))
        self.answer(206 if start else 200, content[start:end], length=len(content) - start)

    @staticmethod
    def entry(path: str, content: bytes) -> dict[str, object]:
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": git}
        if len(content) > 1000:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
        return entry

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        if length is not None and length != len(body):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    server.repositories[SMALL.repository] = {
        "config.json": b"{}",
        "vocabulary.txt": b"a",
        "tokenizer.json": b"{}",
        MODEL: bytes(range(256)) * 4000,
        "pytorch_model.bin": b"a pickle that nobody asked for" * 100,
    }
    server.repositories[PYANNOTE_MODEL] = {name: name.encode() * 100 for name in PYANNOTE_FILES}
    server.gated.add(PYANNOTE_MODEL)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def download(
    hub: Hub, cache: Path, *parts: str, whisper_sha256: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command; ``whisper_sha256`` replaces what is recorded of the weights, which nobody has here."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ANNOTATE_"))}
    variables |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(cache / "hub"), "ANNOTATE_CACHE": str(cache)}
    command = ["-m", "annotator"]
    if whisper_sha256 is not None:
        changed = f"dataclasses.replace(w.SMALL, sha256={whisper_sha256!r})"
        setup = f"import dataclasses; from annotator import whisper_files as w; w.SMALL = {changed}"
        command = ["-c", f"{setup}; from annotator.cli import main; main()"]
    return subprocess.run(
        [sys.executable, *command, "download", *parts, "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=300,
        env=variables | environment,
    )


def test_a_broken_off_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.break_off[MODEL] = 600_000
    digest = hashlib.sha256(hub.repositories[SMALL.repository][MODEL]).hexdigest()
    first = download(hub, tmp_path, "whisper", whisper_sha256=digest)
    assert first.returncode == 1 and "Traceback" not in first.stderr
    assert first.stdout == f"whisper: {SMALL.repository} at {SMALL.revision[:12]}, 486 MB, licence MIT\n"
    assert "the same command goes on" in first.stderr
    folder = fetch.part_folder(tmp_path, SMALL.repository, SMALL.revision)
    assert not folder.exists()
    second = download(hub, tmp_path, "whisper", whisper_sha256=digest)
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == f"whisper: {folder}"
    asked = [r for path, r, _ in hub.requests if path.endswith(MODEL)]
    assert asked == [None, "bytes=600000-"]
    assert len([p for p, _, _ in hub.requests if p.endswith("/config.json")]) == 1
    assert all(f"/{SMALL.revision}" in path for path, _, _ in hub.requests)
    assert (folder / MODEL).read_bytes() == hub.repositories[SMALL.repository][MODEL]
    assert not (folder / "pytorch_model.bin").exists(), "only what is asked for"
    before = len(hub.requests)
    third = download(hub, tmp_path, "whisper")
    assert third.stdout == f"whisper: already there: {folder}\n" and len(hub.requests) == before


def test_other_weights_than_recorded_are_refused(hub: Hub, tmp_path: Path) -> None:
    """Also where the hub's own listing vouches for them."""
    ended = download(hub, tmp_path, "whisper")
    assert ended.returncode == 1 and "is not what it should be" in ended.stderr
    assert not list(tmp_path.rglob(MODEL))


def test_a_gated_part_is_explained_in_two_sentences(hub: Hub, tmp_path: Path) -> None:
    refused = download(hub, tmp_path, "pyannote")
    assert refused.returncode == 1
    said = refused.stderr.removeprefix("annotate: ").strip()
    assert said.count(". ") == 1 and said.endswith("`annotate download pyannote`.")
    assert "accept their authors' conditions" in said and "HF_TOKEN" in said
    given = download(hub, tmp_path, "pyannote", HF_TOKEN=TOKEN)
    assert given.returncode == 0, given.stderr
    assert "about 33 MB, licence CC BY 4.0" in given.stdout
    folder = fetch.part_folder(tmp_path, PYANNOTE_MODEL, PYANNOTE_REVISION)
    assert all((folder / name).is_file() for name in PYANNOTE_FILES)
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert TOKEN not in given.stdout + given.stderr and TOKEN.encode() not in written


def test_without_a_network_and_offline_it_says_so(hub: Hub, tmp_path: Path) -> None:
    nobody = download(hub, tmp_path, "whisper", HF_ENDPOINT="http://127.0.0.1:9")
    assert nobody.returncode == 1 and "can't be reached" in nobody.stderr
    offline = download(hub, tmp_path, "whisper", HF_HUB_OFFLINE="1")
    assert offline.returncode == 1 and "HF_HUB_OFFLINE" in offline.stderr
    unknown = download(hub, tmp_path, "wisper")
    assert unknown.returncode == 2 and "choose from yunet, whisper, pyannote" in unknown.stderr


# One file, without the command


def remote(hub: Hub, path: str, **changes: object) -> fetch.Remote:
    content = hub.repositories["some/where"][path]
    known = {
        "path": path,
        "url": f"{hub.address}/some/where/resolve/main/{path}",
        "size": len(content),
        "hash": hashlib.sha256(content).hexdigest(),
    }
    return fetch.Remote(**(known | changes))  # type: ignore[arg-type]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests is on this machine, and asked in this process."""
    for name in (offline.OURS, *offline.THEIRS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("online")
def test_what_has_another_hash_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["some/where"] = {"a.onnx": b"x" * 5000, "b.onnx": b"y" * 5000}
    good, bad = remote(hub, "a.onnx"), remote(hub, "b.onnx", hash="0" * 64)
    with pytest.raises(SetupError, match="its hash differs"):
        fetch.fetch([good, bad], tmp_path / "part")
    assert not (tmp_path / "part").exists()
    assert not list((tmp_path / "part.partial").glob("b*"))
    counted: list[int] = []
    folder = fetch.fetch([good, remote(hub, "b.onnx")], tmp_path / "part", counted.append)
    assert (folder / "b.onnx").read_bytes() == b"y" * 5000
    assert sum(counted) == 5000, "the first file was there already"
    assert not (tmp_path / "part.partial").exists()
    with pytest.raises(SetupError, match="HTTP 404"):
        fetch.fetch([remote(hub, "a.onnx", url=f"{hub.address}/no/where/resolve/main/a")], tmp_path / "other")


@pytest.mark.usefixtures("online")
def test_a_longer_file_than_listed_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["some/where"] = {"a.onnx": b"x" * 5000}
    with pytest.raises(SetupError, match="not what it should be"):
        fetch.fetch([remote(hub, "a.onnx", size=4000)], tmp_path / "part")


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    "path", ["../up.json", "/etc/x.json", "a/../../x.json", "a//x.json", "C:x.json", "a\\x.json", "x\n.json"]
)
def test_a_listing_that_leads_out_is_refused(
    path: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    hub.repositories["some/where"] = {path: b"x"}
    with pytest.raises(SetupError, match="no path of a file in a repository"):
        fetch.fetch_repository("some/where", "main", ["*"], tmp_path / "in" / "part")
    assert not list(tmp_path.rglob("*.json"))


def test_offline_is_decided_in_one_place(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing asks a network, whatever the reason for it: no socket is made."""
    from huggingface_hub import constants

    from annotator.weights import checkpoint_folder
    from train.share import share

    for name in (offline.OURS, *offline.THEIRS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    hub.repositories["some/where"] = {"a.onnx": b"x"}
    connect = Mock()
    monkeypatch.setattr(socket.socket, "connect", connect)
    with offline.when(True):
        assert offline.is_on()
        for ask in (
            lambda: checkpoint_folder("hf:some/where"),
            lambda: fetch.listing("some/where", "main"),
            lambda: fetch.fetch([remote(hub, "a.onnx")], tmp_path / "part"),
            lambda: share(Path("model/starter"), "hf:some/where"),
        ):
            with pytest.raises(AnnotateError, match="offline|network"):
                ask()
    assert not connect.called and not hub.requests
    assert not offline.is_on()
