"""How long a page of 100,000 utterances takes to write and to open, and whether search reaches all of it.

python -m benchmarks.report

Opening needs a Chromium; without one its figures are null. Exits 1 when a limit is passed; for writing it is
one of the processor's seconds, because other work on the machine lengthens the wall time beside them.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from annotator import __version__
from annotator.report import parts_folder, write_report
from annotator.table import write_table
from tests.browser import Browser
from tests.tables import LABELS, table_of, utterance

RECORDINGS, ROWS = 1_000, 100
WRITE_LIMIT_S, OPEN_LIMIT_S = 30.0, 2.0  # of a processor, on the wall
WORDS = 12  # an utterance
SAMPLE = 20  # recordings that are looked for by a word that only they have


def table() -> pl.DataFrame:
    """Rows with words and their times, as `annotate run` writes them."""
    random = np.random.default_rng(0)
    said = np.array("we you that this plan week talk again good well then maybe next about never".split())
    rows = []
    for recording in range(RECORDINGS):
        shares = random.dirichlet(np.ones(len(LABELS)) / 2, ROWS)
        for i in range(ROWS):
            start, best = 4.0 * i, int(shares[i].argmax())
            text = ["everywhere", f"only{recording:04}", *random.choice(said, WORDS - 2)]
            rows.append(
                utterance(
                    file=f"talks/talk {recording:04}.mp4",
                    start=start,
                    end=start + 3.5,
                    speaker=f"SPEAKER_{random.integers(4):02}",
                    text=" ".join(text),
                    words=[
                        {
                            "start": start + 0.25 * k,
                            "end": start + 0.25 * k + 0.2,
                            "text": w,
                            "confidence": 0.9,
                        }
                        for k, w in enumerate(text)
                    ],
                    emotion=LABELS[best],
                    confidence=float(shares[i].max()),
                    **{f"p_{label}": float(p) for label, p in zip(LABELS, shares[i], strict=True)},
                    plausible=[LABELS[best]],
                    text_emotion=LABELS[best],
                    text_confidence=0.5,
                    audio_emotion=LABELS[random.integers(7)],
                    audio_confidence=0.5,
                )
            )
    return table_of(*rows)


def searched(browser: Browser, field: str, value: str) -> str:
    """What the page says that it found."""
    browser.run(
        "document.getElementById('filters').reset();"
        f"(() => {{ const e = document.getElementById('{field}'); e.value = {json.dumps(value)};"
        "e.dispatchEvent(new Event('input')); })()"
    )
    time.sleep(0.3)  # the page waits until nobody types
    told: str = browser.wait(
        "/ of /.test(document.getElementById('matches').textContent)"
        " && !/^Reading/.test(document.getElementById('matches').textContent)"
        " && document.getElementById('matches').textContent",
        60,
    )
    return told


def written(folder: Path, page: Path, order: str | None) -> tuple[float, float]:
    """Seconds to write a page: on the wall, and of processors."""
    wall, busy = time.perf_counter(), time.process_time()
    write_report(folder / "labels.parquet", page, order=order)
    return time.perf_counter() - wall, time.process_time() - busy


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="report-"))
    try:
        write_table(table(), folder / "labels.parquet", {})
        page = folder / "labels.html"
        write_s, write_cpu_s = written(folder, page, None)
        review_s, review_cpu_s = written(folder, folder / "review.html", "uncertain")
        parts = list(parts_folder(page).glob("part-*"))
        figures: dict[str, object] = {
            "rows": RECORDINGS * ROWS,
            "recordings": RECORDINGS,
            "write_s": round(write_s, 2),
            "write_cpu_s": round(write_cpu_s, 2),
            "write_review_s": round(review_s, 2),
            "write_review_cpu_s": round(review_cpu_s, 2),
            "page_mb": round(page.stat().st_size / 1e6, 2),
            "parts": len(parts),
            "parts_mb": round(sum(p.stat().st_size for p in parts) / 1e6, 1),
            "open_s": None,
            "first_search_s": None,
            "recordings_found": None,
        }
        failed = max(write_cpu_s, review_cpu_s) > WRITE_LIMIT_S
        if shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"):
            with Browser(folder / "browser") as browser:
                start = time.perf_counter()
                browser.open(page)
                browser.wait("document.querySelectorAll('.rows .time').length > 0")
                open_s = time.perf_counter() - start
                start = time.perf_counter()
                told = searched(browser, "by-text", "everywhere")
                search_s = time.perf_counter() - start
                found = int(told.split(" in ")[1].split(" of ")[0].replace(",", ""))
                for recording in range(0, RECORDINGS, RECORDINGS // SAMPLE):
                    for field, value in (("by-text", "only{:04}"), ("by-file", "talk {:04}")):
                        told = searched(browser, field, value.format(recording))
                        failed |= not told.startswith(f"{ROWS} of 100,000 utterances in 1 of 1,000")
                failed |= open_s > OPEN_LIMIT_S or found != RECORDINGS or bool(browser.errors)
                figures |= {
                    "open_s": round(open_s, 2),
                    "first_search_s": round(search_s, 2),
                    "recordings_found": found,
                }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, figure in figures.items():
        print(f"{name:<18} {figure}")
    figures |= {"cores": os.cpu_count(), "python": platform.python_version(), "annotator": __version__}
    print(json.dumps(figures))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
