#!/usr/bin/env bash
# One table from what the shards have left in RESULTS; says which are missing, if any.
#
#     examples/cluster/merge.sh RESULTS
set -euo pipefail
exec annotate merge "$1/labels.parquet" --from "$1"/shard-*.work
