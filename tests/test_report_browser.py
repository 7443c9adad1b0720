"""The page in a browser: it plays, finds, corrects, and asks for nothing outside its folder."""

from __future__ import annotations

import json
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotator.report import write_report
from annotator.table import write_table
from tests.browser import Browser, looks
from tests.tables import LABELS, table_of, utterance
from train.prepare.table import read

HOSTILE = (
    '</script><script>document.title="taken"</script><img src=x onerror=alert(1)> "\'`= \u202eabc &amp; مرحبا'
)


def word(start: float, end: float, text: str, confidence: float = 0.9) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text, "confidence": confidence}


def recording(path: Path, seconds: float = 12.0) -> None:
    """Silence, in a format that every browser plays."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * round(8000 * seconds)))


def page_in(folder: Path, *rows: dict[str, Any], media: Path | None = None, order: str | None = None) -> Path:
    write_table(table_of(*rows), folder / "labels.parquet", {})
    write_report(folder / "labels.parquet", folder / "labels.html", media, order)
    return folder / "labels.html"


def talk(file: str = "talk.wav", **given: Any) -> list[dict[str, Any]]:
    """Four utterances of two speakers, the second with the times of its words."""
    return [
        utterance(file=file, start=1.0, end=2.5, **given),
        utterance(file=file, start=3.25, end=5.0, speaker="SPEAKER_01", text="No, not at all.",
                  emotion="anger", sentiment="negative", words=[word(3.25, 3.5, "No,"), word(3.5, 4.0, "not"),
                                               word(4.0, 4.5, "at", 0.2), word(4.5, 5.0, "all.")]),
        utterance(file=file, start=6.0, end=8.0, emotion="neutral", quality=["clipped"],
                  text_emotion="joy", text_confidence=0.6, audio_emotion="anger", audio_confidence=0.5),
        utterance(file=file, start=8.5, end=10.0, speaker="SPEAKER_01", text=None, has_text=False,
                  plausible=["joy", "anger"]),
    ]  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "browser") as started:
        yield started


def row(number: int, recording: int = 0) -> str:
    return f'[data-recording="{recording}"] .rows tbody tr:nth-child({number})'


def outside(browser: Browser, folder: Path) -> list[str]:
    """What it asked for that is not in the folder; browsers draw their own buttons out of `data:`."""
    allowed = (folder.as_uri() + "/", "data:image/svg+xml", "blob:")
    return [address for address in browser.requests if not address.startswith(allowed)]


def test_it_draws_hostile_texts_as_text(tmp_path: Path, browser: Browser) -> None:
    rows = [
        utterance(speaker=HOSTILE, text=HOSTILE, quality=["clipped"], file=HOSTILE.replace("/", "")),
        utterance(start=3, end=5, text=None, has_text=False, emotion="anger", sentiment="negative"),
        *(utterance(start=10.0 + i, end=11.0 + i) for i in range(150)),
    ]
    browser.open(page_in(tmp_path, *rows))
    assert browser.run("document.title") == "labels.parquet – emotions in conversation"
    assert browser.run("document.querySelectorAll('.u').length") == 152
    assert browser.run("document.querySelectorAll('img').length") == 0
    text = browser.run("document.body.innerText")
    assert (
        "– no transcript" in text
        and "Show 51 more of 51" in text
        and "152 utterances in 2 recordings." in text
    )
    browser.click(f"{row(1)} .said-here")
    for place in (f"{row(1)} .said-here", "#dock-text"):
        shown = browser.run(f"document.querySelector('{place}').textContent")
        assert shown == HOSTILE.replace("\u202e", "\\u202e")
    assert browser.run("document.title") == "labels.parquet – emotions in conversation"
    assert browser.errors == [] and outside(browser, tmp_path) == []


def test_a_click_on_an_utterance_moves_the_player(tmp_path: Path, browser: Browser) -> None:
    recording(tmp_path / "talk.wav")
    browser.open(page_in(tmp_path, *talk()))
    for number, start in ((3, 6.0), (2, 3.25)):
        browser.click(f"{row(number)} .said-here")
        browser.wait("document.getElementById('media').readyState > 0")
        assert browser.run("document.getElementById('media').currentTime") == pytest.approx(start, abs=0.1)
        assert browser.run(f"document.querySelector('{row(number)}').classList.contains('now')")
    # A click on the timeline does the same.
    browser.click(".u[data-u='0'] .k")
    assert browser.run("document.getElementById('media').currentTime") == pytest.approx(1.0, abs=0.1)
    assert browser.errors == [] and outside(browser, tmp_path) == []


def test_it_follows_what_is_played_word_by_word(tmp_path: Path, browser: Browser) -> None:
    recording(tmp_path / "talk.wav")
    browser.open(page_in(tmp_path, *talk()))
    browser.key("j")
    browser.wait("document.getElementById('media').readyState > 0")
    browser.run(
        "(() => { window.heard = []; const player = document.getElementById('media');"
        f"new MutationObserver(() => heard.push(document.querySelector('{row(2)} .word.said')?.textContent))"
        ".observe(document.body, {subtree: true, attributeFilter: ['class']});"
        "player.playbackRate = 0.5; player.currentTime = 3.1; })()"
    )
    browser.key(" ")
    browser.wait("['No,', 'not', 'at', 'all.'].every((word) => heard.includes(word))")
    assert browser.run("document.querySelector('#dock-text .word.unsure').textContent") == "at"
    browser.key(" ")
    assert browser.run("document.getElementById('media').paused")
    browser.key("k")
    assert browser.run("document.getElementById('media').currentTime") == pytest.approx(1.0, abs=0.1)
    browser.key("ArrowRight")
    browser.wait("Math.abs(document.getElementById('media').currentTime - 3) < 0.1")
    assert browser.errors == []


def test_a_recording_elsewhere_is_found_and_one_that_is_gone_is_told(
    tmp_path: Path, browser: Browser
) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "video's 100%").mkdir()
    recording(tmp_path / "video's 100%" / "talk #1.wav")
    recording(tmp_path / "secret.wav")
    rows = [*talk("talk #1.wav"), *talk("../secret.wav")]
    browser.open(page_in(tmp_path / "page", *rows, media=tmp_path / "video's 100%"))
    browser.click(f"{row(2, 1)} .said-here")
    browser.wait("document.getElementById('media').readyState > 0")
    assert browser.run("document.getElementById('media').duration") == pytest.approx(12)
    browser.click(f"{row(2, 0)} .said-here")
    assert browser.run("document.getElementById('media').hidden")
    assert "does not lie beside this page" in browser.run("document.getElementById('unheard').textContent")
    assert not [address for address in browser.requests if "secret" in address]


FILTERS = [
    ("by-text", "AT ALL", ["0:03.3"]),
    ("by-speaker", "speaker_01", ["0:03.3", "0:08.5"]),
    ("by-flag", "clipped", ["0:06.0"]),
    ("by-sentiment", "negative", ["0:03.3"]),
    ("by-plausible", "two", ["0:08.5"]),
    ("by-plausible", "6", ["0:08.5"]),  # the place of anger
    ("by-agree", "text-audio", ["0:06.0"]),
    ("by-agree", "all", []),
    ("by-least", "80", ["0:01.0"]),
    ("by-most", "75", ["0:03.3", "0:06.0", "0:08.5"]),
    ("by-sort", "most", ["0:01.0", "0:03.3", "0:06.0", "0:08.5"]),
    ("by-sort", "long", ["0:06.0", "0:03.3", "0:01.0", "0:08.5"]),
]


def set_field(browser: Browser, field: str, value: str) -> None:
    browser.run(
        f"(() => {{ const e = document.getElementById('{field}'); e.value = '{value}';"
        "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind)); })()"
    )


def shown(browser: Browser) -> list[str]:
    """When the utterances start that are in view."""
    cells: list[str] = browser.run(
        "[...document.querySelectorAll('.rows .time')].filter((e) => e.checkVisibility())"
        ".map((e) => e.textContent)"
    )
    return [cell.split(" ")[0] for cell in cells]


def test_filters_and_orders(tmp_path: Path, browser: Browser) -> None:
    browser.open(page_in(tmp_path, *talk(confidence=0.9)))
    everything = shown(browser)
    for field, value, starts in FILTERS:
        set_field(browser, field, value)
        browser.wait(f"document.getElementById('nothing').hidden === {str(bool(starts)).lower()}")
        until = time.monotonic() + 60
        while shown(browser) != starts and time.monotonic() < until:
            time.sleep(0.02)
        assert shown(browser) == starts, (field, value)
        browser.run("document.getElementById('filters').reset()")
        browser.wait(
            "!document.getElementById('list').hidden"
            " && document.querySelectorAll('#list .rows .time').length === 4"
        )
    assert shown(browser) == everything and browser.errors == []


def saved(browser: Browser) -> Path:
    """Save the corrections, and give their file."""
    file = browser.downloads / "corrections.csv"
    file.unlink(missing_ok=True)
    browser.click("#save")
    until = time.monotonic() + 60
    while not file.is_file() and time.monotonic() < until:
        time.sleep(0.02)
    return file


def test_corrections_come_back_as_a_corpus(tmp_path: Path, browser: Browser) -> None:
    rows: list[dict[str, Any]] = []
    for name in ("a, b.wav", "c.wav", "d.wav"):
        recording(tmp_path / name)
        rows += talk(name)
    rows[0] |= {"speaker": "=Anna", "text": '=1+1 "so" he said,\nمرحبا'}
    page = page_in(tmp_path, *rows)
    browser.open(page)
    browser.click(f"{row(1)} .said-here")
    browser.key("7")  # anger, where the model says joy
    browser.key("j")
    browser.key("a")  # it is anger
    browser.key("j")
    browser.key("x")
    browser.key("z")  # taken back
    browser.key("4")  # sadness
    browser.click(f"{row(2, 1)} .said-here")
    browser.key("e")
    browser.run("document.querySelector('#dock-form textarea').select()")
    browser.type("No, not that tall.")
    browser.key("Enter")
    browser.key("s")
    browser.type("Ben")
    browser.run("document.querySelector('#dock-form select').value = 'all'")
    browser.run("document.getElementById('dock-form').requestSubmit()")
    browser.key("j")
    browser.key("x")
    assert browser.run(f"document.querySelector('{row(4, 1)} .speaker').textContent") == "Ben"
    browser.click(f"{row(2, 2)} .said-here")
    browser.key("a")
    browser.open(page)  # what was done is still there
    told = "4 judged, 2 of them relabelled, 1 unusable. Kept in this browser."
    assert browser.run("document.getElementById('progress').textContent") == told
    file = saved(browser)
    assert browser.errors == [] and outside(browser, tmp_path) == []
    got = read(file, media=tmp_path)
    labels = {0: "anger", 1: "anger", 2: "sadness", 9: "anger"}
    rows[5]["text"] = "No, not that tall."
    rows[5]["speaker"] = rows[7]["speaker"] = "Ben"
    wanted = [
        (r["file"], r["start"], r["end"], r["speaker"], r["text"], labels.get(i)) for i, r in enumerate(rows)
    ]
    columns = ["recording", "start", "end", "speaker", "text", "emotion"]
    assert sorted(got.table.select(columns).rows(), key=str) == sorted(wanted, key=str)
    assert got.labels == LABELS and got.unused is None
    status = pl.read_csv(file, infer_schema=False)["status"].to_list()
    assert [i for i, s in enumerate(status) if s == "unusable"] == [6]


def test_saved_corrections_are_loaded_again(tmp_path: Path, browser: Browser) -> None:
    rows = talk()
    rows[0] |= {"speaker": "=Anna", "text": '=1+1 "so" he said,\nمرحبا'}
    page = page_in(tmp_path, *rows)
    browser.open(page)
    browser.click(f"{row(1)} .said-here")
    browser.key("7")
    browser.click(f"{row(2)} .said-here")
    browser.key("a")
    browser.key("e")
    browser.run("document.querySelector('#dock-form textarea').select()")
    browser.type('No,\n"not" at all')
    browser.run("document.getElementById('dock-form').requestSubmit()")
    browser.click(f"{row(3)} .said-here")
    browser.key("s")
    browser.type("+Ben")
    browser.key("Enter")
    browser.key("x")
    first = saved(browser).read_text("utf-8")
    assert pl.read_csv(first.encode())["speaker"].to_list()[2] == "'+Ben"
    browser.run("localStorage.clear()")
    browser.open(page)
    browser.click(f"{row(4)} .said-here")
    assert browser.run("document.getElementById('save').disabled")
    browser.run(
        "(() => { const files = new DataTransfer();"
        f"files.items.add(new File([{json.dumps(first)}], 'corrections.csv'));"
        "const e = document.getElementById('load-file'); e.files = files.files;"
        "e.dispatchEvent(new Event('change')); })()"
    )
    browser.wait("!document.getElementById('save').disabled")
    told = browser.run("document.getElementById('progress').textContent")
    assert told == "2 judged, 1 of them relabelled, 1 unusable. Kept in this browser. Loaded."
    assert saved(browser).read_text("utf-8") == first and browser.errors == []


def test_only_recordings_with_corrections_are_saved(tmp_path: Path, browser: Browser) -> None:
    browser.open(page_in(tmp_path, *talk("a.wav"), *talk("b.wav")))
    assert browser.run("document.getElementById('save').disabled")
    browser.click(f"{row(1, 1)} .said-here")
    browser.click("#dock-labels button:nth-child(3)")
    written = pl.read_csv(saved(browser), infer_schema=False)
    assert written["file"].to_list() == ["b.wav"] * 4
    assert written["emotion"].to_list() == ["fear", None, None, None]
    assert "Training needs three conversations" in browser.run(
        "document.getElementById('progress').textContent"
    )


def test_two_speakers_become_one(tmp_path: Path, browser: Browser) -> None:
    browser.open(page_in(tmp_path, *talk()))
    browser.click(f"{row(2)} .said-here")
    browser.key("s")
    browser.type("SPEAKER_00")
    browser.run("document.querySelector('#dock-form select').value = 'all'")
    browser.key("Enter")
    browser.wait("document.querySelectorAll('.who div').length === 1")
    assert pl.read_csv(saved(browser))["speaker"].to_list() == ["SPEAKER_00"] * 4
    browser.key("z")
    browser.wait("document.querySelectorAll('.who div').length === 2")


def test_a_browser_that_keeps_nothing_says_so(tmp_path: Path, browser: Browser) -> None:
    browser.send(
        "Page.addScriptToEvaluateOnNewDocument",
        source="Object.defineProperty(window, 'localStorage', {get() { throw new Error('none'); }});",
    )
    browser.open(page_in(tmp_path, *talk()))
    browser.click(f"{row(1)} .said-here")
    browser.key("a")
    assert "save before you close" in browser.run("document.getElementById('progress').textContent")


def test_review_goes_through_what_is_least_certain(tmp_path: Path, browser: Browser) -> None:
    rows = talk()
    for r, (joy, anger) in zip(rows, [(0.9, 0.1), (0.5, 0.5), (0.6, 0.4), (0.52, 0.48)], strict=True):
        r |= {f"p_{label}": 0.0 for label in LABELS} | {"p_joy": joy, "p_anger": anger}
    browser.open(page_in(tmp_path, *rows, order="uncertain"))
    # The fourth has a less margin than the third, but its speaker was asked about already.
    assert shown(browser) == ["0:03.3", "0:08.5", "0:06.0", "0:01.0"]
    browser.key("j")
    browser.key("a")  # and on to the next
    assert browser.run("document.querySelector('#flat tr.now .time').textContent").startswith("0:08.5")
    browser.open(page_in(tmp_path, *rows, order="random"))
    assert browser.run("document.getElementById('by-sort').selectedOptions[0].text") == "by chance"
    assert sorted(shown(browser)) == ["0:01.0", "0:03.3", "0:06.0", "0:08.5"]
    assert browser.errors == []


def test_many_recordings_are_reached_by_search(tmp_path: Path, browser: Browser) -> None:
    rows = [utterance(file=f"{i:03}.wav", text=f"word{i:03} here", start=1.0) for i in range(120)]
    recording(tmp_path / "117.wav")
    browser.open(page_in(tmp_path, *rows))
    assert browser.run("document.querySelectorAll('details.recording').length") == 50
    set_field(browser, "by-file", "117")
    browser.wait("document.querySelectorAll('details.recording').length === 1")
    browser.run("document.getElementById('filters').reset()")
    set_field(browser, "by-text", "word117")
    browser.wait("document.querySelectorAll('#list .rows .time').length === 1")
    browser.click("#list .rows .said-here")
    browser.wait("document.getElementById('media').readyState > 0")
    assert browser.run("document.getElementById('media').currentTime") == pytest.approx(1.0, abs=0.1)
    browser.key("a")
    assert pl.read_csv(saved(browser))["file"].to_list() == ["117.wav"]
    # In another order all parts are listed together.
    browser.run("document.getElementById('filters').reset()")
    set_field(browser, "by-sort", "least")
    browser.wait("document.querySelectorAll('#flat .rows .time').length === 100")
    assert browser.errors == [] and outside(browser, tmp_path) == []


def test_a_part_that_is_missing_is_told(tmp_path: Path, browser: Browser) -> None:
    browser.open(page_in(tmp_path, *[utterance(file=f"{i:03}.wav") for i in range(120)]))
    for part in (tmp_path / "labels.html.parts").glob("part-0001*"):
        part.unlink()
    set_field(browser, "by-text", "good")
    browser.wait("!document.getElementById('missing').hidden")
    assert "keep the folder of the parts" in browser.run("document.getElementById('missing').textContent")


DRAWN = "!document.getElementById('list') || document.querySelectorAll('.rows .time').length > 0"
STATES = (
    "document.querySelectorAll('details').forEach((d) => { d.open = true; })",
    "document.querySelector('.rows .said-here')?.click()",
    "document.getElementById('speaker')?.click()",
    "document.querySelector('.chip')?.click()",
)


@pytest.mark.parametrize("kind", ["recording", "many", "hostile", "in review", "empty"])
def test_every_page_can_be_read_and_pressed(tmp_path: Path, browser: Browser, kind: str) -> None:
    recording(tmp_path / "talk.wav")
    rows = {
        "recording": talk(),
        "many": [
            utterance(file=f"season {i // 24}/an episode with a long name {i:03}.wav", start=1.0)
            for i in range(60)
        ],
        "hostile": [
            utterance(speaker=HOSTILE, text=HOSTILE, file=HOSTILE.replace("/", ""), quality=["clipped"]),
            utterance(start=3, end=5, speaker="S" * 400, text="W" * 3000, file="F" * 300),
        ],
        "in review": talk(),
        "empty": [],
    }[kind]
    page = page_in(tmp_path, *rows, order="uncertain" if kind == "in review" else None)
    assert looks(browser, page, ready=DRAWN, states=STATES) == []


def test_the_keyboard_reaches_all_and_is_seen(tmp_path: Path, browser: Browser) -> None:
    """Tab goes through the page and leaves it at its end; whatever has the focus shows it."""
    recording(tmp_path / "talk.wav")
    browser.open(page_in(tmp_path, *talk()))
    browser.run("document.querySelector('.rows .said-here').click()")
    reached = []
    for _ in range(100):
        browser.key("Tab")
        at = browser.run(
            "(() => { const e = document.activeElement; if (e === document.body) return null;"
            "return [e.id || e.className || e.tagName, getComputedStyle(e).outlineStyle]; })()"
        )
        if at is None:
            break
        reached.append(at)
    else:
        pytest.fail(f"the focus never leaves the page: {reached[-5:]}")
    names = [name for name, _ in reached]
    for name in ("skip", "by-text", "chip", "track", "box", "time", "media", "accept", "load", "dock-close"):
        assert name in names, names
    assert [name for name, outline in reached if outline == "none"] == []


def test_closing_the_player_gives_the_focus_back(tmp_path: Path, browser: Browser) -> None:
    browser.open(page_in(tmp_path, *talk()))
    browser.click(f"{row(2)} .said-here")
    browser.run("document.getElementById('dock-close').focus()")
    browser.key("Enter")
    assert browser.run("document.getElementById('dock').hidden")
    assert browser.run("document.activeElement.textContent").startswith("0:03.3")
