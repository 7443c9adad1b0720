"""The scripts for clusters, run as a cluster runs them, but for the cluster: real shards, really merged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

ROOT = Path(__file__).resolve().parents[1]
CLUSTER, RECORDINGS = ROOT / "examples" / "cluster", ROOT / "examples" / "recordings"
QUICK = ("--modalities", "text", "--transcriber", "subtitles", "--workers", "1")  # options of each run
SHARDS = 2


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=os.environ | {"PATH": path} | environment
    )


def job(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    return found


def pod(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command of the Job's container, with its variables and those given instead."""
    (container,) = job(name)["spec"]["template"]["spec"]["containers"]
    own = {variable["name"]: variable["value"] for variable in container["env"]}
    return run(container["command"], **own | environment)


def task(number: int, results: Path) -> subprocess.CompletedProcess[str]:
    """A task of an array that was submitted as 1-2, of which Slurm says so."""
    return run(
        [str(CLUSTER / "slurm.sh"), str(RECORDINGS), str(results), *QUICK],
        SLURM_ARRAY_TASK_ID=str(number + 1),
        SLURM_ARRAY_TASK_MIN="1",
        SLURM_ARRAY_TASK_COUNT=str(SHARDS),
    )


def test_shards_of_both_schedulers_merge_to_the_table_of_one_run(tmp_path: Path) -> None:
    results, whole = tmp_path / "my results", tmp_path / "whole.parquet"
    results.mkdir()
    ended = pod(
        "kubernetes.yaml",
        JOB_COMPLETION_INDEX="0",
        SHARDS=str(SHARDS),
        RECORDINGS=str(RECORDINGS),
        RESULTS=str(results),
        OPTIONS=" ".join(QUICK),
    )
    assert ended.returncode == 0, ended.stderr
    early = run([str(CLUSTER / "merge.sh"), str(results)])
    assert early.returncode == 2 and "shards are missing: 1/2" in early.stderr
    ended = task(1, results)
    assert ended.returncode == 0, ended.stderr
    again = task(0, results)  # either takes up what the other has done
    assert again.returncode == 0 and "done already" in again.stderr, again.stderr
    merged = pod("kubernetes-merge.yaml", RESULTS=str(results))
    assert merged.returncode == 0, merged.stderr
    table = pl.read_parquet(results / "labels.parquet")
    (results / "labels.parquet").unlink()
    assert run([str(CLUSTER / "merge.sh"), str(results)]).returncode == 0
    assert_frame_equal(pl.read_parquet(results / "labels.parquet"), table, check_exact=True)
    command = ["annotate", "run", str(RECORDINGS), "--out", str(whole), "--offline", *QUICK]
    assert run(command).returncode == 0
    assert_frame_equal(pl.read_parquet(whole), table, check_exact=True)


def test_the_job_has_an_index_for_each_shard() -> None:
    spec = job("kubernetes.yaml")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert spec["completionMode"] == "Indexed" and str(spec["completions"]) == variables["SHARDS"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {variables["RECORDINGS"], variables["RESULTS"]}
    codes = [
        rule["onExitCodes"]["values"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule
    ]
    assert codes == [[3]], "what has ended with failures is not tried again and again"


@pytest.mark.parametrize("name", ["slurm.sh", "merge.sh"])
def test_scripts_are_sound_bash(name: str) -> None:
    assert run(["bash", "-n", str(CLUSTER / name)]).returncode == 0
    assert os.access(CLUSTER / name, os.X_OK)
