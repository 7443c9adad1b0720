"""How long 10 MB of each kind of transcript and of labelled corpus take to be read, and how much memory.

    python -m benchmarks.readers [--megabytes 10] [KIND...]

Each kind is written anew, of whole sentences by four people, and read in a process of its own. The clock is
the processor's time; memory is the most that the process held, the interpreter included (for corpora without
PyTorch and what else ``train`` loads before). A second reading of a quarter as much shows growth: 4 for a
reader that is linear. Exits 1 when a limit is missed.
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
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path

# Growth of the time for four times the size, with room for a busy machine; 16 would be the square.
LIMITS = {"seconds": 20.0, "megabytes": 300.0, "growth": 8.0}
LIBRARIES = ("pysubs2", "charset-normalizer", "pympi-ling", "praatio")
EMOTIONS = ("joy", "anger", "sadness")
NAMES = ("Anna", "Ben", "Carla", "Dmitri")
SYLLABLES = "ba de ki lo mu na pe ri so tu va we xo ya zi".split()

Sentence = tuple[float, float, str, str]  # start, end, speaker, text


def sentences() -> Iterator[Sentence]:
    """Talk without an end: a sentence of eight words every three seconds.

    The words are as long as German ones: of shorter ones 10 MB would hold more than the readers take.
    """
    choose = random.Random(0)
    number = 0
    while True:
        words = ["".join(choose.choices(SYLLABLES, k=choose.randint(2, 5))) for _ in range(8)]
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
    # Names as long as an archive's: of shorter lines 10 MB would hold more turns than are taken.
    name = f"collection-of-talks/room-4/{s[2]}/microphone-of-the-table-by-the-window"
    return f"SPEAKER talk 1 {s[0]:.3f} {s[1] - s[0]:.3f} <NA> <NA> {name} <NA> <NA>\n"


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


def eaf(said: Sequence[Sentence]) -> str:
    """A tier of words and one of labels for each speaker."""
    slots, tiers = "", {f"{name}{kind}": "" for name in NAMES for kind in ("", " emotion")}
    for number, (start, end, name, text) in enumerate(said):
        for place, at in ((0, start), (1, end)):
            slots += f'<TIME_SLOT TIME_SLOT_ID="ts{2 * number + place}" TIME_VALUE="{round(at * 1000)}"/>\n'
        for kind, value in (("", text), (" emotion", EMOTIONS[number % len(EMOTIONS)])):
            tiers[f"{name}{kind}"] += (
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}{kind[1:]}" '
                f'TIME_SLOT_REF1="ts{2 * number}" TIME_SLOT_REF2="ts{2 * number + 1}"><ANNOTATION_VALUE>'
                f"{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>\n"
            )
    parts = (
        f'<TIER LINGUISTIC_TYPE_REF="words" PARTICIPANT="{name.split()[0]}" TIER_ID="{name}">{part}</TIER>\n'
        for name, part in tiers.items()
    )
    head = '<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0"><HEADER TIME_UNITS="milliseconds"/>'
    kind = '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="words" TIME_ALIGNABLE="true"/>'
    return f"{head}<TIME_ORDER>\n{slots}</TIME_ORDER>\n{''.join(parts)}{kind}</ANNOTATION_DOCUMENT>"


def text_grid(said: Sequence[Sentence]) -> str:
    """The long form, with the empty intervals that Praat writes between those with words."""
    last = said[-1][1]
    out = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {last}\ntiers? <exists>\n'
    out += f"size = {2 * len(NAMES)}\nitem []:\n"
    for tier, (name, kind) in enumerate((name, kind) for name in NAMES for kind in ("text", "emotion")):
        spans: list[tuple[float, float, str]] = []
        reached = 0.0
        for number, (start, end, speaker, text) in enumerate(said):
            if speaker == name:
                spans += [(reached, start, "")] if start > reached else []
                spans.append((start, end, text if kind == "text" else EMOTIONS[number % len(EMOTIONS)]))
                reached = end
        out += f'    item [{tier + 1}]:\n        class = "IntervalTier"\n        name = "{name} {kind}"\n'
        out += f"        xmin = 0\n        xmax = {last}\n        intervals: size = {len(spans)}\n"
        for place, (start, end, value) in enumerate(spans, 1):
            out += f"        intervals [{place}]:\n            xmin = {start}\n            xmax = {end}\n"
            out += f'            text = "{value}"\n'
    return out


def chat(said: Sequence[Sentence]) -> str:
    out = "@UTF8\n@Begin\n@Participants:\t"
    out += ", ".join(f"{name[:3].upper()} {name} Adult" for name in NAMES) + "\n@Media:\ttalk, audio\n"
    for number, (start, end, name, text) in enumerate(said):
        bullet = f"\x15{round(start * 1000)}_{round(end * 1000)}\x15"
        out += f"*{name[:3].upper()}:\t{text[:-1]} . {bullet}\n%xemo:\t{EMOTIONS[number % len(EMOTIONS)]}\n"
    return out + "@End\n"


def label_studio(said: Sequence[Sentence]) -> str:
    """Tasks of a hundred regions with three controls each."""
    tasks = []
    for first in range(0, len(said), 100):
        results = []
        for number, (start, end, name, text) in enumerate(said[first : first + 100], first):
            controls = (
                ("emotion", "labels", EMOTIONS[number % len(EMOTIONS)]),
                ("speaker", "labels", name),
                ("transcription", "text", text),
            )
            for control, kind, value in controls:
                region = {"start": start, "end": end, "channel": 0, kind: [value]}
                results.append(
                    {"id": f"r{number}", "from_name": control, "to_name": "audio", "type": kind}
                    | {"value": region, "original_length": said[-1][1], "origin": "manual"}
                )
        data = {"audio": f"/data/upload/1/0123abcd-talk{first}.wav"}
        tasks.append({"id": first, "data": data, "annotations": [{"id": first, "result": results}]})
    return json.dumps(tasks)


# Corpora from annotation programs. Kind: ending, the file with these sentences.
CORPORA: dict[str, tuple[str, Callable[[Sequence[Sentence]], str]]] = {
    "eaf": (".eaf", eaf),
    "textgrid": (".TextGrid", text_grid),
    "chat": (".cha", chat),
    "label-studio": (".json", label_studio),
}

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
    if kind in CORPORA:
        return write_corpus(kind, folder, size)
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


def write_corpus(kind: str, folder: Path, size: int) -> Path:
    ending, document = CORPORA[kind]
    path = folder / f"talk{ending}"
    trial = 400
    each = len(document(list(islice(sentences(), trial)))) / trial
    path.write_text(document(list(islice(sentences(), round(size / each)))), "utf-8")
    return path


def read(path: Path, kind: str) -> None:
    """In a process of its own: read a file, and print words, processor seconds and MB of memory."""
    loaded = 0.0
    if kind in CORPORA:
        from train.prepare.annotated import READERS
        from train.prepare.annotated.layout import Names

        pages = int(Path("/proc/self/statm").read_text().split()[1])
        loaded = pages * resource.getpagesize() / 2**20
    start = time.process_time()
    if kind in CORPORA:
        number = len(READERS[kind][1](path.read_bytes(), path.stem, Names()))
    elif kind == "rttm":
        from annotator.diarize import read_rttm

        number = len(read_rttm(path))
    else:
        from annotator.transcribe import read_sidecar

        number = len(read_sidecar(path).words)
    seconds = time.process_time() - start
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"number": number, "seconds": seconds, "megabytes": kilobytes / 1024 - loaded}))


def measured(kind: str, size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = write(kind, Path(folder), size)
        command = [sys.executable, "-m", "benchmarks.readers", "--read", str(path), kind]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join((*KINDS, *CORPORA)))
    parser.add_argument("--megabytes", type=float, default=10.0)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read is not None:
        read(given.read, given.kinds[0])
        return 0
    size = int(given.megabytes * 1e6)
    figures: dict[str, dict[str, float]] = {}
    missed = []
    for kind in given.kinds or (*KINDS, *CORPORA):
        whole, quarter = measured(kind, size), measured(kind, size // 4)
        row = whole | {"growth": whole["seconds"] / max(quarter["seconds"], 1e-3)}
        figures[kind] = {key: round(value, 2) for key, value in row.items()}
        late = [name for name, limit in LIMITS.items() if row[name] > limit]
        missed += [f"{kind}: {name}" for name in late]
        numbers = f"{row['number']:9.0f} {row['seconds']:7.2f} s {row['megabytes']:6.0f} MB"
        print(f"{kind:24} {numbers}  x {row['growth']:.1f}  {'MISSED ' + ', '.join(late) if late else ''}")
    print("words, turns or utterances, processor seconds, memory; growth of the time for four times the size")
    print(
        json.dumps(
            {
                "readers": figures,
                "limits": LIMITS,
                "missed": missed,
                "megabytes": given.megabytes,
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "versions": {
                    name: version(name) for name in ("pysubs2", "charset-normalizer", "pympi-ling", "praatio")
                },
            }
        )
    )
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
