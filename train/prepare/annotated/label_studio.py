"""Label Studio's exports, JSON and JSON-MIN, as its documentation gives their shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from annotator.encodings import decode
from annotator.records import UsageError
from train.prepare.annotated.layout import AnnotatedUtterance, Names

_VALUES = ("labels", "choices", "text", "hypertextlabels", "paragraphlabels", "timeserieslabels")
_SOUND = re.compile(r"\.\w{2,5}$")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the name of what is uploaded


def read_json(raw: bytes, stem: str, names: Names) -> list[AnnotatedUtterance]:
    """Utterances of an export: regions with the labels, words and speakers that people gave them.

    Of several annotations of a task, the one marked as ground truth is taken, else the last.

    Raises:
        UsageError: it is no such export, or nobody has annotated anything.
    """
    try:
        tasks = json.loads(decode(raw)[0])
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UsageError(f"it is no JSON ({error}).") from error
    if isinstance(tasks, Mapping):
        tasks = [tasks]
    if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
        raise UsageError("it is no export of Label Studio: a list of tasks is expected.")
    utterances: list[AnnotatedUtterance] = []
    predicted = 0
    for task in tasks:
        if "data" in task:
            annotation = _annotation(task)
            predicted += annotation is None and bool(task.get("predictions"))
            results = annotation.get("result") if annotation is not None else []
            utterances += _regions(_recording(task["data"]), _results(results), names)
        else:
            utterances += _regions(_recording(task), _flat(task), names)
    if not utterances and predicted:
        raise UsageError("it holds predictions of a model, and no annotation of a person.")
    return utterances


def _annotation(task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    listed = task.get("annotations", task.get("completions"))
    annotations = (
        [a for a in listed if isinstance(a, Mapping) and not a.get("was_cancelled")]
        if isinstance(listed, list)
        else []
    )
    return next((a for a in annotations if a.get("ground_truth")), annotations[-1] if annotations else None)


def _recording(data: Any) -> str:
    """The name of the task's recording: of local files, uploads and links alike."""
    links = [v for v in data.values() if isinstance(v, str)] if isinstance(data, Mapping) else []
    for key in ("file", "audio", "video", "url", "recording"):
        if isinstance(data, Mapping) and isinstance(data.get(key), str):
            links.insert(0, data[key]) if key == "file" else links.append(data[key])
    media_links = [link for link in links if _SOUND.search(urlsplit(link).path + _query(link))]
    if not media_links:
        raise UsageError("a task has no recording in its data.")
    link = media_links[0]
    if _query(link):
        return _query(link)
    path = unquote(urlsplit(link).path if "://" in link else link)
    name = PurePosixPath(path.replace("\\", "/")).name
    return _UPLOADED.sub("", name) if "/upload/" in path else path.lstrip("/") if "://" not in link else name


def _query(link: str) -> str:
    return parse_qs(urlsplit(link).query).get("d", [""])[0] if "?" in link else ""


Result = tuple[str, str, float | None, float | None, str]  # region, field, start, end, value


def _results(results: Any) -> Iterator[Result]:
    """The parts of an annotation: one for each field of each region."""
    for number, result in enumerate(results if isinstance(results, list) else []):
        value = result.get("value") if isinstance(result, Mapping) else None
        if isinstance(value, Mapping):
            region, name = str(result.get("id", number)), str(result.get("from_name", ""))
            yield from _values(region, name, value)


def _flat(task: Mapping[str, Any]) -> Iterator[Result]:
    """JSON-MIN: fields stand beside the data; those of a region say which stretch they are of."""
    for name, field in task.items():
        for part in field if isinstance(field, list) else []:
            if isinstance(part, Mapping):
                yield from _values(f"{part.get('start')}-{part.get('end')}", name, part)
        if isinstance(field, str) and name not in ("audio", "video", "file", "annotator"):
            yield "", name, None, None, field
        elif isinstance(field, Mapping) and isinstance(field.get("choices"), list):
            yield "", name, None, None, str(field["choices"][0])


def _values(region: str, name: str, value: Mapping[str, Any]) -> Iterator[Result]:
    start, end = (_seconds(value.get(name)) for name in ("start", "end"))
    content = next((value[kind] for kind in _VALUES if kind in value), None)
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, str):
        yield region, name, start, end, first


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e9 else None


def _regions(recording: str, results: Iterator[Result], names: Names) -> list[AnnotatedUtterance]:
    """Fields of one region put together; a field of no region is of the whole recording."""
    fields: dict[str, dict[str, str]] = {}
    times: dict[str, tuple[float, float]] = {}
    for region, name, start, end, value in results:
        key = region if start is not None and end is not None else ""
        if start is not None and end is not None:
            times[key] = (float(start), float(end))
        meaning = names.meaning(name)
        if meaning is not None and value.strip():
            fields.setdefault(key, {}).setdefault(meaning, value.strip())
    whole = fields.pop("", {})
    parts: list[tuple[tuple[float | None, float | None], dict[str, str]]] = [((None, None), whole)]
    if times:
        for_all = {"speaker": whole["speaker"]} if "speaker" in whole else {}
        parts = [
            (times[key], {**for_all, **fields.get(key, {})}) for key in sorted(times, key=times.__getitem__)
        ]
    return [
        AnnotatedUtterance(recording, start, end, *map(parsed.get, ("speaker", "label", "text", "sentiment")))
        for (start, end), parsed in parts
        if parsed
    ]
