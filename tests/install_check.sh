#!/usr/bin/env bash
# Installs the wheel as anybody would, without the lock, and annotates a recording from another folder, offline.
# Downloads about 3 GB and takes 7 GB of disk meanwhile; `make install-check`, no part of `make test`.
#
#     tests/install_check.sh PYTHON [pip|uv]
#
# Where pip also looks into a folder or index with PyTorch's CPU build, it takes that torch (a local version counts as
# newer) and the ordinary torchvision, and the two do not fit. `===` takes the version of that very name. Where all
# three come from PyTorch's CPU index, set TORCH=2.13.0+cpu.
set -euo pipefail
python=$1
torch=${TORCH:-2.13.0}
with=${2:-pip}
source=$(cd "$(dirname "$0")/.." && pwd)
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT
cd "$there"

echo "1. the wheel"
"$python" -m venv build
build/bin/python -m pip install --quiet --disable-pip-version-check hatchling uv
(cd "$source" && "$there/build/bin/python" -m hatchling build -t wheel -d "$there/dist" >&2)

echo "torch===$torch" > constraints.txt
echo "2. installed by $with"
"$python" -m venv fresh
if [ "$with" = uv ]; then
    time build/bin/uv pip install --quiet --constraint constraints.txt --python fresh/bin/python dist/*.whl
else
    time fresh/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
fi
du -sh fresh | cut -f1
fresh/bin/python -m pip check

echo "3. annotated"
export HF_HUB_OFFLINE=1 ANNOTATE_CACHE=$there/cache
mkdir elsewhere
cd elsewhere
time ../fresh/bin/annotate run "$source/examples/recordings/call.m4a" --out labels.csv
../fresh/bin/python - <<'CHECK'
import polars as pl

table = pl.read_csv("labels.csv")
assert len(table) >= 4, table
assert table["text"].is_not_null().all() and table["emotion"].is_not_null().all(), table
assert table["speaker"].n_unique() == 2, table
print(table.select("start", "speaker", "text", "emotion"))
CHECK
../fresh/bin/annotate doctor
echo "installed whole"
