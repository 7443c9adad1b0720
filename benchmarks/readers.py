"""How long 10 MB of each kind of transcript take to be read, and how much memory.

    python -m benchmarks.readers [--megabytes 10] [KIND...]

Each kind is written anew, of whole sentences by four people, and read in a process of its own. The clock is
the processor's time; memory is the most that the process held, the interpreter included. A second reading of
a quarter as much shows growth: 4 for a reader that is linear. Exits 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

# Growth of the time for four times the size, with room for a busy machine; 16 would be the square.
LIMITS = {"seconds": 20.0, "megabytes": 300.0, "growth": 8.0}
NAMES = ("Anna", "Ben", "Carla", "Dmitri")
SYLLABLES = "ba de ki lo mu na pe ri so tu va we xo ya zi".split()

Sentence = tuple[float, float, str, str]  # start, end, speaker, text


def sentences() -> Iterator[Sentence]:
    """Talk without an end: a sentence of about eight words every three seconds."""
    choose = random.Random(0)
    number = 0
    while True:
        words = ["".join(choose.choices(SYLLABLES, k=choose.randint(1, 4))) for _ in range(8)]
        start = 3.0 * number
        yield start, start + 2.8, NAMES[number // 3 % 4], " ".join(words).capitalize() + "."
        number += 1


def clock(seconds: float, mark: str, hours: str = "02") -> str:
    ms = round(seconds * 1000)
    hour = f"{ms // 3_600_000:{hours}}"
    return f"{hour}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"


def timed_words(sentence: Sentence) -> list[tuple[float, float, str]]:
    start, end, _, text = sentence
    words = text.split()
    step = (end - start) / len(words)
    return [(round(start + i * step, 3), round(start + (i + 1) * step, 3), w) for i, w in enumerate(words)]


def subrip(s: Sentence) -> str:
    return f"7\n{clock(s[0], ',')} --> {clock(s[1], ',')}\n{s[2]}: {s[3]}\n\n"


def plain_subrip(s: Sentence) -> str:
    return f"7\n{clock(s[0], ',')} --> {clock(s[1], ',')}\n{s[3]}\n\n"


def vtt(s: Sentence) -> str:
    return f"{clock(s[0], '.')} --> {clock(s[1], '.')} align:start\n<v {s[2]}>{s[3]}</v>\n\n"


def ass(s: Sentence) -> str:
    start, end = (clock(t % 36_000, ".", "01")[:-1] for t in s[:2])
    return f"Dialogue: 0,{start},{end},Default,{s[2]},0,0,0,,{{\\i1}}{s[3]}\n"


def ttml(s: Sentence) -> str:
    return f'<p begin="{clock(s[0], ".")}" end="{clock(s[1], ".")}" ttm:agent="{s[2]}">{s[3]}</p>\n'


def sami(s: Sentence) -> str:
    shown, blank = (f"<SYNC Start={round(t * 1000)}><P Class=ENCC>" for t in s[:2])
    return f"{shown}{s[3]}\n{blank}&nbsp;\n"


def microdvd(s: Sentence) -> str:
    return f"{{{round(s[0] * 25)}}}{{{round(s[1] * 25)}}}{s[3]}\n"


def subviewer(s: Sentence) -> str:
    return f"{clock(s[0], '.', '01')},{clock(s[1], '.', '01')}\n{s[3]}\n\n"


def ctm(s: Sentence) -> str:
    return "".join(f"talk 1 {a} {b - a:.3f} {w} 0.9 lex {s[2]}\n" for a, b, w in timed_words(s))


def rttm(s: Sentence) -> str:
    return f"SPEAKER talk 1 {s[0]:.3f} {s[1] - s[0]:.3f} <NA> <NA> {s[2]} <NA> <NA>\n"


def whisper(s: Sentence) -> str:
    words = [{"word": f" {w}", "start": a, "end": b, "score": 0.9} for a, b, w in timed_words(s)]
    return json.dumps({"start": s[0], "end": s[1], "text": s[3], "speaker": s[2], "words": words}) + ","


def whisper_cpp(s: Sentence) -> str:
    offsets = {"from": round(s[0] * 1000), "to": round(s[1] * 1000)}
    return json.dumps({"offsets": offsets, "text": f" {s[3]}"}) + ","


def chunk(s: Sentence) -> str:
    return json.dumps({"timestamp": s[:2], "text": f" {s[3]}"}) + ","


def amazon(s: Sentence) -> str:
    out = ""
    for a, b, w in timed_words(s):
        content = [{"confidence": "0.9", "content": w}]
        item = {"start_time": str(a), "end_time": str(b), "speaker_label": s[2], "alternatives": content}
        out += json.dumps(item | {"type": "pronunciation"}) + ","
    return out


def google(s: Sentence) -> str:
    words = [{"startTime": f"{a}s", "endTime": f"{b}s", "word": w} for a, b, w in timed_words(s)]
    return json.dumps({"alternatives": [{"transcript": s[3], "words": words}]}) + ","


# Kind: ending, what stands before, each sentence, what stands behind.
TTML_HEAD = (
    '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata"><body><div>\n'
)
KINDS: dict[str, tuple[str, str, Callable[[Sentence], str], str]] = {
    "subrip": (".srt", "", plain_subrip, ""),
    "subrip with names": (".srt", "", subrip, ""),
    "vtt": (".vtt", "WEBVTT\n\n", vtt, ""),
    "ass": (".ass", "[Script Info]\n\n[Events]\n", ass, ""),
    "ttml": (".ttml", TTML_HEAD, ttml, "</div></body></tt>"),
    "sami": (".smi", "<SAMI><BODY>\n", sami, "</BODY></SAMI>"),
    "microdvd": (".sub", "{1}{1}25\n", microdvd, ""),
    "subviewer": (".sbv", "", subviewer, ""),
    "ctm": (".ctm", "", ctm, ""),
    "rttm": (".rttm", "", rttm, ""),
    "whisper": (".json", '{"language": "en", "segments": [', whisper, "null]}"),
    "whisper.cpp": (".json", '{"transcription": [', whisper_cpp, "null]}"),
    "transformers": (".json", '{"chunks": [', chunk, "null]}"),
    "amazon": (".json", '{"results": {"items": [', amazon, "null]}}"),
    "google": (".json", '{"results": [', google, "null]}"),
    "subrip in windows-1251": (
        ".ru.srt",
        "1\n00:00:00,000 --> 00:00:00,001\nПривет, мир\n\n",
        plain_subrip,
        "",
    ),
}


def write(kind: str, folder: Path, size: int) -> Path:
    ending, head, each, foot = KINDS[kind]
    path = folder / f"talk{ending}"
    encoding = "cp1251" if "1251" in kind else "utf-8"
    with path.open("w", encoding=encoding) as file:
        written = file.write(head)
        for sentence in sentences():
            part = each(sentence)
            if foot == "null]}" and kind == "whisper":  # its segments are objects and nothing else
                part = part if written + len(part) < size else part.rstrip(",")
            written += file.write(part)
            if written >= size:
                break
        file.write(foot.removeprefix("null") if kind == "whisper" else foot)
    return path


def read(path: Path) -> None:
    """In a process of its own: read a file, and print words, processor seconds and MB of memory."""
    from annotator.diarize import read_rttm
    from annotator.transcribe import read_sidecar

    start = time.process_time()
    number = len(read_rttm(path)) if path.suffix == ".rttm" else len(read_sidecar(path).words)
    seconds = time.process_time() - start
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"number": number, "seconds": seconds, "megabytes": kilobytes / 1024}))


def measured(kind: str, size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = write(kind, Path(folder), size)
        command = [sys.executable, "-m", "benchmarks.readers", "--read", str(path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--megabytes", type=float, default=10.0)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read is not None:
        read(given.read)
        return 0
    size = int(given.megabytes * 1e6)
    figures: dict[str, dict[str, float]] = {}
    missed = []
    for kind in given.kinds or KINDS:
        whole, quarter = measured(kind, size), measured(kind, size // 4)
        row = whole | {"growth": whole["seconds"] / max(quarter["seconds"], 1e-3)}
        figures[kind] = {key: round(value, 2) for key, value in row.items()}
        late = [name for name, limit in LIMITS.items() if row[name] > limit]
        missed += [f"{kind}: {name}" for name in late]
        numbers = f"{row['number']:9.0f} {row['seconds']:7.2f} s {row['megabytes']:6.0f} MB"
        print(f"{kind:24} {numbers}  x {row['growth']:.1f}  {'MISSED ' + ', '.join(late) if late else ''}")
    print("words or turns, processor seconds, memory; growth of the time for four times the size")
    print(
        json.dumps(
            {
                "readers": figures,
                "limits": LIMITS,
                "missed": missed,
                "megabytes": given.megabytes,
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "versions": {name: version(name) for name in ("pysubs2", "charset-normalizer")},
            }
        )
    )
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
