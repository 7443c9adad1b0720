"""What a run leaves behind: the manifest of its parts, the merged table, failures, and the record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from annotator import media, table
from annotator.pipeline.workdir import WorkDir
from annotator.records import SetupError, UsageError

if TYPE_CHECKING:
    from annotator.pipeline.job import Job


def check_out(out: Path) -> None:
    """Raises: UsageError when a table can't be written under that name."""
    if out.suffix.lower() not in (".parquet", ".csv"):
        raise UsageError(f"{out} ends neither in .parquet nor in .csv: the ending says which table to write.")
    if out.is_dir():
        raise UsageError(f"{out} is a folder: name a file, such as {out / 'labels.parquet'}.")


def read_manifests(root: Path, shard: tuple[int, int] | None) -> list[dict[str, Any]]:
    """The manifests in a work folder that belong together: the whole run's, or all shards' of one N."""
    names = "manifest.json" if shard is None else f"manifest-*-of-{shard[1]}.json"
    return [json.loads(path.read_text("utf-8")) for path in sorted(root.glob(names))]


def same_settings(manifests: Sequence[dict[str, Any]]) -> None:
    """Raises: UsageError when parts were made with different settings or weights."""
    if len({m["settings_hash"] for m in manifests}) > 1:
        raise UsageError(
            "The parts were made with different settings, versions or checkpoints, so they can't form "
            "one table: run the shards again with the same ones."
        )


def gather(manifests: Sequence[tuple[Path, dict[str, Any]]]) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The table and the failures of manifests, each with the work folder that it lies in.

    Raises: UsageError when two name a file differently; SetupError when a part is missing.
    """
    parts: dict[str, tuple[str, Path]] = {}
    failures: dict[str, dict[str, Any]] = {}
    for root, manifest in manifests:
        for entry in manifest["files"]:
            file = entry["file"]
            if entry["part"] is None:
                failures[file] = {"file": file, **entry["failure"]}
                continue
            path = root / "parts" / f"{entry['part']}.parquet"
            if not path.is_file():
                raise SetupError(f"The part of {file} is missing from {root}: run the same command again.")
            if parts.setdefault(file, (entry["part"], path))[0] != entry["part"]:
                raise UsageError(f"{file} has different contents in two work folders: give only one of them.")
    for file in set(parts) & set(failures):
        del failures[file]  # one shard's folder has it after all
    labels = manifests[0][1]["labels"] if manifests else []
    whole = table.merge([(file, path) for file, (_, path) in parts.items()], labels)
    return whole, list(failures.values())


def write_outputs(
    manifests: Sequence[tuple[Path, dict[str, Any]]], out: Path, record: dict[str, Any]
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Merge parts into the table; write it, the failures file and the record of the run beside it."""
    same_settings([m for _, m in manifests])
    whole, failures = gather(manifests)
    settings = record["settings"]
    metadata = {
        "conversation-annotator": record["versions"]["conversation-annotator"],
        "settings": json.dumps(settings, sort_keys=True),
        "versions": json.dumps(record["versions"], sort_keys=True),
        "model": record["model"],
    }
    table.write_table(whole, out, metadata)
    table.write_failures(out.with_suffix(".failures.csv"), failures)
    table.write_json(out.with_suffix(".run.json"), record)
    return whole, failures


def merge_work_folders(out: Path, folders: Sequence[Path]) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """One table from the parts of many shards (``annotate merge``).

    Raises: UsageError when a folder holds no finished run, or the runs don't fit together.
    """
    check_out(out)
    manifests: list[tuple[Path, dict[str, Any]]] = []
    for folder in folders:
        found = sorted(folder.glob("manifest*.json"))
        if not found:
            raise UsageError(
                f"{folder} holds no finished run (no manifest): give the .work folders of "
                "`annotate run --shard`, after each of them has ended."
            )
        manifests += [(folder, json.loads(path.read_text("utf-8"))) for path in found]
    first = manifests[0][1]
    numbers = {tuple(m["shard"]) for _, m in manifests if m["shard"] is not None}
    of = {n for _, n in numbers}
    if of and not any(m["shard"] is None for _, m in manifests):
        missing = [f"{i}/{n}" for n in of for i in range(n) if (i, n) not in numbers]
        if missing:
            raise UsageError(
                f"These shards are missing: {', '.join(missing)}. Add their work folders to --from."
            )
    record = {key: first[key] for key in ("settings", "versions", "model")}
    record["merged_from"] = [str(f) for f in folders]
    record["recordings"] = [entry for _, m in manifests for entry in m["files"]]
    return write_outputs(manifests, out, record)


def manifest(job: Job, settings: dict[str, Any], versions: dict[str, str]) -> dict[str, Any]:
    """Which file has which part, or why not, with the facts of each recording."""
    files = []
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
            facts = table.read_facts(path)
            if facts is None:
                raise SetupError(
                    f"The part of {entry.file} vanished from {job.work.root}: run the same command again."
                )
            line |= {"part": entry.part, "sha256": media.content_hash(path), **facts}
        files.append(line)
    return {
        "shard": job.work.shard,
        "settings_hash": job.part_settings,
        "settings": settings,
        "versions": versions,
        "model": job.predictor.name,
        "labels": list(job.predictor.labels),
        "files": files,
    }


def work_manifests(work: WorkDir) -> list[tuple[Path, dict[str, Any]]]:
    """The manifests that make up this run's table: its own, or those of all shards that have ended here.

    Shards that were run with other settings before are not of this table: they are to be run again.
    """
    own = json.loads(work.manifest_file.read_text("utf-8"))["settings_hash"]
    return [(work.root, m) for m in read_manifests(work.root, work.shard) if m["settings_hash"] == own]
