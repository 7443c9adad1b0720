"""A small corpus of attacks, broken files, bombs and oddities, made from scratch in a few seconds.

Every entry says what a run must make of it. Attacks point at a private recording and a text outside the
corpus, and at ports of this machine that nobody may call.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .media import run_ffmpeg

CANARY = "CANARY-51c7-nobody-may-read-this"
GRAPHS = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=10:d=1.5", "-f", "lavfi", "-i", "sine=f=330:r=16000:d=1.5")
CODECS = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")


@dataclass
class Corpus:
    """What lies in ``root``, and by name in the table what has to become of it.

    ``failing`` names end in the failures file, ``annotated`` ones don't, ``either`` may do both; nothing else
    may appear. ``flags`` are those that the record has to give some of the annotated ones.
    """

    root: Path
    ffmpeg: str
    failing: set[str] = field(default_factory=set)
    annotated: set[str] = field(default_factory=set)
    either: set[str] = field(default_factory=set)
    flags: dict[str, str] = field(default_factory=dict)

    @property
    def secret(self) -> Path:
        return self.root.parent / "private" / "secret.txt"

    @property
    def private(self) -> Path:
        return self.root.parent / "private" / "talk.ts"

    def make(self, name: str, *arguments: str | Path, of: set[str] | None = None) -> Path:
        """An entry made by ffmpeg."""
        path = self.root / name
        run_ffmpeg(self.ffmpeg, *map(str, arguments), f"file:{path}")
        (self.annotated if of is None else of).add(name)
        return path

    def write(self, name: str, content: bytes | str, of: set[str]) -> Path:
        """An entry of these bytes."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        of.add(name)
        return path


def make(root: Path, ffmpeg: str, port: int) -> Corpus:
    """Fill the folders ``root`` and, beside it, ``private``. ``port`` is listened to on 127.0.0.1."""
    corpus = Corpus(root, ffmpeg)
    root.mkdir()
    corpus.secret.parent.mkdir()
    corpus.secret.write_text(f"{CANARY}\n" * 4)
    run_ffmpeg(ffmpeg, *GRAPHS, *CODECS, "-metadata", f"service_name={CANARY}", str(corpus.private))
    steps: Sequence[Callable[[Corpus], None]] = (_broken, _bombs, _odd, _names, _shapes)
    for step in steps:
        step(corpus)
    _attacks(corpus, port)
    return corpus


def _attacks(c: Corpus, port: int) -> None:
    def playlist(*lines: str) -> str:
        return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:9", *lines, "#EXT-X-ENDLIST", ""])

    web = f"http://127.0.0.1:{port}/x"
    # As text and as a recording; by absolute and relative path, address, key, chained protocols.
    for name, line in {
        "file.mp4": f"file://{c.secret}",
        "path.ts": str(c.private),
        "relative.mkv": "../private/talk.ts",
        "web.mp4": web,
        "name.mp4": f"http://canary-host.invalid:{port}/x",
        "chain.mp4": f"concat:{web}|file://{c.secret}",
        "crypto.mp4": f"crypto+file://{c.private}",
        "subfile.mp4": f"subfile,,start,0,end,0,,:{c.secret}",
    }.items():
        c.write(f"hls_{name}", playlist("#EXTINF:9,", line), c.failing)
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="file://{c.secret}"'
    c.write("hls_key.mp4", playlist(key, "#EXTINF:9,", str(c.private)), c.failing)
    c.write("concat.mp4", f"ffconcat version 1.0\nfile '{c.private}'\n", c.failing)
    c.write("concat_web.mov", f"ffconcat version 1.0\nfile '{web}'\n", c.failing)
    c.write(
        "dash.mp4",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1">'
        f"<BaseURL>file://{c.private}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        c.failing,
    )
    c.write(
        "sdp.mp4",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        c.failing,
    )
    c.write("subtitles.mp4", f"1\n00:00:00,000 --> 00:00:01,000\n{c.secret}\n", c.failing)
    # The picture of a recording whose sound is said to lie in another file is never fetched from there.
    tags = ("title=</title><script>alert(1)</script>", "artist==HYPERLINK(1)", "comment=\x1b]0;own\x07")
    c.make("tags.mp4", *GRAPHS, *CODECS, *(w for tag in tags for w in ("-metadata", tag)))
    (c.root / "tags.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,500\n<script>alert(2)</script><img src=x onerror=alert(3)> So!\n\n"
        "2\n00:00:00,600 --> 00:00:00,900\n=cmd|' /C calc'!A0\n\n"
        "3\n00:00:01,000 --> 00:00:01,300\n\u202egnp \x1b[31mred\x1b[0m &lt;/script&gt;&lt;script&gt;4\n",
        "utf-8",
    )
    # What lies beside a recording may not lead out of the folder either.
    c.make("linked.wav", "-f", "lavfi", "-i", "sine=d=0.7:r=16000")
    (c.root / "linked.srt").symlink_to(c.secret)
    c.make("piped.wav", "-f", "lavfi", "-i", "sine=d=0.8:r=16000")
    os.mkfifo(c.root / "piped.srt")


def _broken(c: Corpus) -> None:
    for name, content in {
        "empty.mp4": b"",
        "one_byte.wav": b"R",
        "text.mp4": b"No film at all.\n" * 50,
        "page.mp4": b"<html><body>404 Not Found</body></html>",
        "zeros.mkv": bytes(5000),
        "gzip.mp3": b"\x1f\x8b\x08" + bytes(range(200)),
    }.items():
        c.write(name, content, c.failing)
    c.write("noise.mp4", bytes((i * 7919 + (i >> 3) * 104_729) & 255 for i in range(30_000)), c.either)
    film = c.make("whole.mp4", *GRAPHS, *CODECS)
    c.write("cut_before_index.mp4", film.read_bytes()[: film.stat().st_size // 2], c.failing)
    graphs = [word.replace("d=1.5", "d=6") for word in GRAPHS]
    long = c.make("whole_6s.mp4", *graphs, *CODECS, "-movflags", "+faststart").read_bytes()
    c.write("cut.mp4", long[: len(long) * 6 // 10], c.annotated)
    c.flags["cut.mp4"] = "truncated_media"
    flipped = bytearray(long)
    for i in range(len(long) // 3, len(long) - 400, 41):
        flipped[i] ^= 0x5A
    c.write("flipped.mp4", bytes(flipped), c.either)
    for name, rate, size, found in (
        ("says_4GB.wav", 16_000, 2**32 - 64, c.annotated),
        ("no_rate.wav", 0, 16_000, c.failing),
    ):
        form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
        header = (
            b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)
        )
        c.write(name, header + bytes(16_000), found)


def _bombs(c: Corpus) -> None:
    film = bytearray((c.root / "whole.mp4").read_bytes())
    at = film.index(b"avc1", film.index(b"stsd"))
    struct.pack_into(">HH", film, at + 28, 65_535, 65_535)
    c.write("says_65535.mp4", bytes(film), c.either)
    squeezed = zlib.compressobj(9)
    rows = b"".join(squeezed.compress(bytes(12_001)) for _ in range(12_000)) + squeezed.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    c.write("picture_144MP.mp4", png, c.failing)
    quiet = ("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "300")
    opus = ("-c:a", "libopus", "-b:a", "500", "-frame_duration", "60")
    c.make("minutes_in_kB.ogg", *quiet, *opus)
    c.flags["minutes_in_kB.ogg"] = "silent"
    fast = ("-f", "lavfi", "-i", "color=s=16x16:r=1000:d=2", *GRAPHS[4:])
    c.make("fps_1000.mp4", *fast, *CODECS, "-bf", "0")
    streams = [word for _ in range(24) for word in ("-map", "0:a")]
    c.make("25_streams.mkv", "-i", c.root / "whole.mp4", "-map", "0:v", *streams, *CODECS)


def _odd(c: Corpus) -> None:
    tone, film = GRAPHS[4:], GRAPHS[:4]
    c.make("sound_only.mp4", *tone, "-c:a", "aac")
    c.flags["sound_only.mp4"] = "no_video"
    c.make("film_only.mp4", *film, *CODECS, of=c.failing)
    c.make("tenth.mp4", "-f", "lavfi", "-i", "testsrc2=s=96x64:r=10:d=0.1", "-f", "lavfi", "-i",
           "sine=d=0.1:r=16000", *CODECS)  # fmt: skip
    c.make("hiss.wav", "-f", "lavfi", "-i", "anoisesrc=r=16000:d=1.5:a=0.3:seed=1")
    c.make("antiphase.wav", *tone, "-af", "pan=stereo|c0=c0|c1=-1*c0")
    c.flags["antiphase.wav"] = "phase_inverted"
    wave = [0.3 * math.sin(i / 6) for i in range(16_000)]

    def floats(name: str, samples: Sequence[float], rate: int = 16_000, channels: int = 1) -> None:
        data = struct.pack(f"<{len(samples)}f", *samples)
        form = struct.pack("<HHIIHH", 3, channels, rate, rate * channels * 4, channels * 4, 32)
        body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
        content = b"RIFF" + struct.pack("<I", len(body)) + body
        c.write(name, content, c.annotated if samples else c.either)

    floats("nan.wav", [math.nan if i % 90 == 0 else s for i, s in enumerate(wave)])
    floats("inf.wav", [math.inf if i == 8000 else s for i, s in enumerate(wave)])
    c.flags["nan.wav"] = c.flags["inf.wav"] = "bad_samples"
    floats("loud.wav", [100 * s for s in wave])
    c.flags["loud.wav"] = "clipped"
    floats("one_sample.wav", [0.5])
    floats("no_samples.wav", [])
    floats("7999_Hz.wav", wave[:7999], rate=7999)
    floats("8_channels.wav", wave, channels=8)
    c.make("late_sound.mp4", *film, "-itsoffset", "0.9", *tone, *CODECS)
    c.make("glued.ts", *GRAPHS, *CODECS)
    broadcast = (c.root / "glued.ts").read_bytes()
    (c.root / "glued.ts").write_bytes(broadcast * 2)
    c.make("cover.mp3", *tone, *film, "-map", "0:a", "-map", "1:v", "-frames:v", "1", "-c:v", "png", "-c:a",
           "libmp3lame", "-disposition:v", "attached_pic")  # fmt: skip


def _names(c: Corpus) -> None:
    content = c.make("names.wav", "-f", "lavfi", "-i", "sine=f=500:d=0.6:r=16000").read_bytes()
    for name in [
        "with space.wav", "quote's \"two\".wav", "line\nbreak.wav", "tab\t.wav", "-i.wav", "--help.wav",
        "%03d.wav", "http:x.wav", "concat:a|b.wav", "$(touch pwned).wav", "`id`;rm -rf ~.wav", "=cmd.wav",
        "<img src=x onerror=alert(5)>.wav", "\u202egpm.wav", "\x1b[31mred\x07.wav", "UPPER.WAV", "[a]*?.wav",
        "cr\r\nInjected: 1.wav", "\u4f60\U0001f600.wav", "back\\slash.wav", "x" * 251 + ".wav",
    ]:  # fmt: skip
        c.write(name, content, c.annotated)
    with open(os.fsencode(c.root) + b"/not-utf8-\xff\xfe.wav", "wb") as file:
        file.write(content)
    c.annotated.add(r"not-utf8-\xff\xfe.wav")
    c.write("a/same.wav", content, c.annotated)
    c.write("b/same.wav", content, c.annotated)
    c.write("/".join(["deep"] * 30) + "/down.wav", content, c.annotated)


def _shapes(c: Corpus) -> None:
    folder = c.root / "shapes"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)  # found under the folder's own name, not again
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    for name, target in {
        "self.mp4": "self.mp4",
        "nowhere.mp4": "gone.mp4",
        "secret.mp4": str(c.secret),
        "private.ts": str(c.private),
        "zero.mp4": "/dev/zero",
        "outside": str(c.secret.parent),
    }.items():
        (folder / name).symlink_to(target)
    names = ("pipe.mp4", "self.mp4", "nowhere.mp4", "secret.mp4", "private.ts", "zero.mp4", "outside")
    c.failing |= {f"shapes/{name}" for name in names}
