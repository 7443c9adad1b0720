"""What a run leaves behind: the manifest of its parts, the merged table, failures, and the record."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from annotator import media, plain_json, table
from annotator.files import write_json
from annotator.pipeline.manifests import MANIFEST_FORMAT, Facts, read_manifest
from annotator.pipeline.parts import read_part
from annotator.pipeline.people import linked, unpacked
from annotator.pipeline.recordings import SHOWN, left_beside, not_used_line, read_beside, write_recordings
from annotator.pipeline.sharing import spooled
from annotator.pipeline.workdir import OutputFiles, WorkDir, output_held, output_merging
from annotator.records import SetupError, UsageError
from annotator.store import is_address, is_url

if TYPE_CHECKING:
    from annotator.pipeline.job import Job
    from annotator.pipeline.profile import Profile

log = logging.getLogger("annotator")


def check_out(out: Path) -> None:
    """Raises: UsageError when a table can't be written under that name."""
    if is_address(out):  # not repeated: it may hold a password
        raise UsageError(
            "Tables are written to the disks of this machine: give --out a path. What is finished is shared "
            "through a URL by --store."
        )
    if out.suffix.lower() not in (".parquet", ".csv"):
        raise UsageError(f"{out} ends neither in .parquet nor in .csv: the ending says which table to write.")
    if out.is_dir():
        raise UsageError(f"{out} is a folder: name a file, such as {out / 'labels.parquet'}.")


def same_settings(manifests: Sequence[dict[str, Any]]) -> None:
    """Raises: UsageError when parts were made with different settings or weights."""
    if len({m["settings_hash"] for m in manifests}) > 1:
        raise UsageError(
            "The parts were made with different settings, versions or checkpoints, so they can't form "
            "one table: run the shards again with the same ones."
        )


def gather(manifests: Sequence[tuple[Path, dict[str, Any]]]) -> list[dict[str, Any]]:
    """What became of each recording, by name, with its part.

    Raises: UsageError when two manifests name a file differently; SetupError when a part is missing, damaged
    or another's.
    """
    found: dict[str, dict[str, Any]] = {}
    for root, manifest in manifests:
        for entry in manifest["files"]:
            before = found.get(entry["file"])
            if entry["part"] is None:
                found.setdefault(entry["file"], entry)  # another folder may have it after all
                continue
            if before is None or before["part"] is None:
                path = root / "parts" / f"{entry['part']}.parquet"
                part = read_part(path, entry["file_id"], manifest["labels"])
                if part is None or part.sha256 != entry["sha256"]:
                    raise SetupError(
                        f"The part of {media.escaped(entry['file'])} in {root} is missing, damaged or not "
                        "the one that its manifest names: run the command that made it again."
                    )
                found[entry["file"]] = entry | {"found": part}
            elif before["part"] != entry["part"]:
                raise UsageError(
                    f"{entry['file']} has different contents in two work folders: give only one of them."
                )
    return [found[file] for file in sorted(found)]


def write_outputs(
    manifests: Sequence[tuple[Path, dict[str, Any]]], out: Path
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Merge parts into the table; write it and beside it that of the recordings, the failures file and the
    record of the run.
    """
    same_settings([m for _, m in manifests])
    files = gather(manifests)
    first = manifests[0][1]
    parts: list[tuple[str, table.Part]] = [(f["file"], f["found"]) for f in files if "found" in f]
    whole = table.merge([(file, part.rows) for file, part in parts], first["labels"])
    if first["settings"]["link_speakers"]:
        voices = {file: {who: unpacked(v) for who, v in part.voices.items()} for file, part in parts}
        whole = linked(whole, voices, first["settings"]["link_threshold"])
    failures = [{"file": f["file"], **f["failure"]} for f in files if "found" not in f]
    # A recording is annotated without its transcript when that can't be read; the file is to be mended.
    failures += [{"file": f["file"], "attempts": 1, **p} for f in files for p in f.get("problems", ())]
    metadata = {
        "conversation-annotator": first["versions"]["conversation-annotator"],
        "settings": json.dumps(first["settings"], sort_keys=True),
        "versions": json.dumps(first["versions"], sort_keys=True),
        "model": first["model"],
    }
    written = OutputFiles.beside(out)
    table.write_table(whole, written.table, metadata)
    table.write_failures(written.failures, failures)
    not_used = passed_over([m for _, m in manifests], {f["file"] for f in files})
    write_recordings(written.recordings, files, not_used)
    write_json(written.record, record([m for _, m in manifests], files) | {"not_used": not_used})
    if not_used:
        log.info("%s", not_used_line(not_used, written.record))
    return whole, failures


def passed_over(manifests: Sequence[dict[str, Any]], recordings: set[str]) -> list[dict[str, str]]:
    """Files that no run used and why, by name; shards that look through the same folders find the same."""
    reasons = {other["file"]: other["reason"] for m in manifests for other in m["not_used"]}
    return [{"file": f, "reason": reasons[f]} for f in sorted(reasons) if f not in recordings]


def record(manifests: Sequence[dict[str, Any]], files: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What ``labels.run.json`` says of one run, or of shards together: their seconds are summed."""
    first, runs = manifests[0], [m["run"] for m in manifests]
    profiles = [run["profile"] for run in runs if "profile" in run]
    seconds: dict[str, float] = {}
    for run in runs:
        for stage, spent in run["seconds_per_stage"].items():
            seconds[stage] = round(seconds.get(stage, 0.0) + spent, 3)
    return {
        "started": min(run["started"] for run in runs),
        "wall_seconds": round(sum(run["wall_seconds"] for run in runs), 3),
        "seconds_per_stage": seconds,
        "shards": [m["shard"] for m in manifests if m["shard"] is not None],
        **{key: first[key] for key in ("settings", "versions", "model")},
        **{key: runs[0][key] for key in ("device", "backends")},
        "counts": {
            "inputs": len(files),
            "annotated_now": sum(run["annotated_now"] for run in runs),
            "failed": sum(f["part"] is None for f in files),
            "without_speech": sum("no_speech" in f.get("flags", ()) for f in files),
            "rows": sum(f.get("rows", 0) for f in files),
        },
        "recordings": [{key: value for key, value in f.items() if key != "found"} for f in files],
        **({"profiles": profiles} if profiles else {}),
    }


def merge_work_folders(out: Path, places: Sequence[str | Path]) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """One table from the parts of many shards (``annotate merge``).

    Args:
        places: their work folders, or URLs of the stores that they shared.

    Raises: UsageError when a folder holds no finished run, or the runs don't fit together; SetupError when
    another run writes ``out``.
    """
    check_out(out)
    with ExitStack() as around:
        return _merged(out, [(str(p), around.enter_context(_as_folder(p))) for p in places])


@contextmanager
def _as_folder(place: str | Path) -> Iterator[Path]:
    if is_url(place):
        with spooled(str(place)) as folder:
            yield folder
    else:
        yield Path(place)


def _merged(out: Path, folders: Sequence[tuple[str, Path]]) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """One table from what lies in folders, each with its name for people."""
    manifests: list[tuple[Path, dict[str, Any]]] = []
    kinds: dict[int | None, list[str]] = {}  # by number of shards
    for name, folder in folders:
        found = sorted(folder.glob("manifest*.json"))
        if not found:
            raise UsageError(
                f"{name} holds no finished run (no manifest): give the .work folders of "
                "`annotate run --shard`, after each of them has ended."
            )
        for path in found:
            shown, read = f"{name}/{path.name}", read_manifest(path)
            if read is None:
                raise UsageError(f"{shown} is no manifest that this version wrote: run the shard again.")
            manifests.append((folder, read))
            shard = read["shard"]
            kinds.setdefault(shard[1] if shard else None, []).append(shown)
    if len(kinds) > 1:
        told = "; ".join(
            f"{f'of {n} shards' if n else 'of a whole run'} {', '.join(paths)}" for n, paths in kinds.items()
        )
        raise UsageError(
            f"These are manifests of different runs, so some are stale: {told}. Remove those that are."
        )
    numbers = {m["shard"][0] for _, m in manifests if m["shard"]}
    missing = [f"{i}/{n}" for n in kinds if n for i in range(n) if i not in numbers]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise UsageError(
            f"These shards are missing: {', '.join(missing[:SHOWN])}{more}. Add their work folders to "
            "--from, or wait until they have ended."
        )
    with output_held(out), output_merging(out):
        return write_outputs(manifests, out)


def manifest(
    job: Job,
    settings: dict[str, Any],
    versions: dict[str, str],
    run: dict[str, Any],
    not_used: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    """Which file has which part, or why not, with the facts of each recording and of the run.

    Args:
        not_used: files among the inputs that are no recordings.
    """
    files = []
    left = list(not_used)
    backends = job.backends
    asked = {
        "transcript": backends.take_subtitles or backends.transcriber == "subtitles",
        "speakers": backends.take_sidecar_turns,
    }
    for entry in sorted(job.entries, key=lambda e: str(e.file)):
        line: dict[str, Any] = {"file": entry.file, "file_id": entry.file_id, "part": None}
        if entry.failure is not None:
            failure = entry.failure
            line["failure"] = {
                "stage": failure.stage,
                "error": failure.error,
                "message": failure.message,
                "attempts": entry.attempts,
            }
        else:
            path = job.work.part_file(entry.part)
            assert entry.file_id is not None
            part = read_part(path, entry.file_id, job.predictor.labels)
            if part is None:
                raise SetupError(
                    f"The part of {media.escaped(entry.file)} in {job.work.root} is missing or damaged: run "
                    "the same command again."
                )
            facts = dict(part.facts)
            line |= {name: facts[name] for name in Facts.model_fields}
            line |= {"part": entry.part, "sha256": part.sha256}
            line["beside"] = read_beside(entry.path, facts["beside"])
            inside = facts["streams"]["subtitles"]
            taken = ({"transcript": inside} if inside else {}) | line["beside"]
            left += left_beside(entry.path, entry.file, taken, asked, line.pop("not_used"))
        files.append(line)
    return {
        "format": MANIFEST_FORMAT,
        "shard": job.work.shard,
        "run": run,
        "settings_hash": job.part_settings,
        "settings": settings,
        "versions": versions,
        "model": job.predictor.name,
        "labels": list(job.predictor.labels),
        "files": files,
        "not_used": left,
    }


def add_profile(work: WorkDir, out: Path, manifest: dict[str, Any], profile: Profile) -> None:
    """Put the profile of a run, which is known once everything is written, into its record and its manifest.

    Args:
        manifest: the run's own, as written.
    """
    told = profile.record()
    work.write_json(work.manifest_file, manifest | {"run": manifest["run"] | {"profile": told}})
    about = OutputFiles.beside(out).record
    whole: dict[str, Any] = plain_json.read(about)
    write_json(about, whole | {"profiles": [*whole.get("profiles", ()), told]})


def work_manifests(work: WorkDir) -> list[tuple[Path, dict[str, Any]]]:
    """The manifests that make up this run's table: its own, or those of all shards that have ended here.

    Shards that were run with other settings before are not of this table: they are to be run again.
    """
    own = read_manifest(work.manifest_file)
    assert own is not None
    names = work.manifest_file.name if work.shard is None else f"manifest-*-of-{work.shard[1]}.json"
    mine = []
    for path in sorted(work.root.glob(names)):
        found = read_manifest(path)
        if found is None:
            log.warning(
                "%s is damaged or of another version: the table lacks that shard. Run it again.", path
            )
        elif found["settings_hash"] == own["settings_hash"]:
            mine.append((work.root, found))
    return mine
