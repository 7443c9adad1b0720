"""What happens to a run's files: a full disk, inputs that change, flipped bits."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.chaos.runs import WORKERS, Figures, Ledger, Sizes, same_table, start, to_the_end

DISK = """
set -e
mount -t tmpfs -o size=24m tmpfs "$2"
head -c 23m /dev/zero > "$2/ballast"
set +e
"$1" -m annotator run "$3" --out "$2/labels.parquet" --offline --batch-size 4 --workers 1 > "$4" 2>&1
echo $? > "$5/code"
rm "$2/ballast"
ls "$2"/labels.work/parts 2>/dev/null | wc -l > "$5/before"
"$1" -m annotator run "$3" --out "$2/labels.parquet" --offline --batch-size 4 --workers 1 >> "$4" 2>&1
echo $? >> "$5/code"
find "$2" -name '*.tmp' > "$5/left"
cp "$2/labels.parquet" "$5/"
"""


def disk(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    place, mount = base / "disk", base / "mount"
    place.mkdir()
    mount.mkdir()
    log = place / "log"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", DISK, "sh", sys.executable]
    arguments = [str(mount), str(base / "videos"), str(log), str(place)]
    if shutil.which("unshare") is None or subprocess.run([*command, *arguments]).returncode:
        print("disk: not measured, a small tmpfs can't be mounted here")
        return {"disk_table_differs": None}
    codes = (place / "code").read_text().split()
    said = log.read_text()
    sentence = "disk is full" in said or "No space left" in said
    print(
        f"disk: full in the middle: exit code {codes[0]}, then with room {codes[1]}; it says why: {sentence}"
    )
    wrong = codes != ["1", "0"] or not sentence or "Traceback" in said
    left = len((place / "left").read_text().splitlines())
    return {
        "disk_wrong_end": int(wrong),
        "disk_left_over": left,
        "disk_table_differs": same_table(place / "labels.parquet", clean),
    }


def changes(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    """Files beside recordings changed and put back, times and all, while a run goes on."""
    out, beside = base / "changes" / "labels.parquet", sorted((base / "videos").glob("*.srt"))
    out.parent.mkdir()
    ledger, changed, codes = Ledger(out), 0, []
    process = start(base / "videos", out, "--workers", str(WORKERS))
    while process.poll() is None and changed < sizes.changes:
        time.sleep(draw.uniform(0, 4))
        file = draw.choice(beside)
        content, status = file.read_bytes(), file.stat()
        file.write_text("1\n00:00:00,100 --> 00:00:01,000\nSomebody else wrote this.\n")
        time.sleep(draw.uniform(0, 1.5))
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        changed += 1
    codes.append(process.wait())
    ledger.note()
    to_the_end(base / "videos", out, "--workers", str(WORKERS))
    strange = b"Somebody else" in out.read_bytes() or same_table(out, clean)
    print(f"changes: {changed} files beside recordings changed and put back; exit codes {[*codes, 0]}")
    more: Figures = {
        "changes_wrong_code": int(codes[0] not in (0, 3)),
        "changes_table_differs": int(strange),
    }
    return ledger.figures("changes") | more


def flips(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    """A bit of each of some files of a finished work folder flipped: the next run mends what it needs."""
    out = base / "flips" / "labels.parquet"
    out.parent.mkdir()
    shutil.copytree(clean.with_suffix(".work"), out.with_suffix(".work"))
    files = sorted(p for p in out.with_suffix(".work").rglob("*") if p.is_file() and p.suffix)
    chosen = draw.sample(files, min(sizes.flips, len(files)))
    for file in chosen:
        content = bytearray(file.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
    code = start(base / "videos", out, "--workers", str(WORKERS)).wait()
    told = out.with_suffix(".log").read_text().count("damaged")
    print(f"flips: a bit in {len(chosen)} files; exit code {code}, {told} lines tell of damage")
    left = Ledger(out).left_over()
    return {
        "flips_wrong_code": int(code != 0),
        "flips_left_over": len(left),
        "flips_table_differs": same_table(out, clean),
    }
