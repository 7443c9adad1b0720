#!/usr/bin/env bash
# From recordings and a table of labels to a better model, step by step, on a corpus made here.
#
#     examples/finetune/run.sh [FOLDER]        FOLDER is build/example by default
#
# Your own corpus takes the same commands: put your recordings in the place of $WORK/videos and your table in
# the place of $WORK/labels.csv.
set -euo pipefail
cd "$(dirname "$0")/../.."
WORK=${1:-build/example}
PATH=$PWD/.venv/bin:$PATH
say() { printf '\n== %s\n' "$*"; }

say "1. Recordings and a table: who says what from when to when, and how it sounds"
python examples/finetune/make_corpus.py "$WORK"
head -n 4 "$WORK/labels.csv"

say "2. prepare: features of every labelled utterance, by the stages of a run; splits without shared speakers"
annotate prepare table "$WORK/labels.csv" --media "$WORK/videos" --out "$WORK/corpus"

say "3. finetune: from the starter, with three labels of our own (a name that says nothing needs --sentiment)"
annotate finetune "$WORK/corpus" --from starter --out "$WORK/my.ckpt" --sentiment cross=negative

say "4. run: a recording that nobody labelled, with the new model"
annotate run "$WORK/new" --out "$WORK/labels.parquet" --model "$WORK/my.ckpt"
python examples/read_table.py "$WORK/labels.parquet"

say "5. evaluate: on the labelled utterances, and as a run labels the recordings"
annotate evaluate "$WORK/corpus" --model "$WORK/my.ckpt" --media "$WORK/videos" --out "$WORK/evaluation"

say "Done. The card is $WORK/my.ckpt/CARD.md, the page $WORK/my.ckpt/evaluation/index.html"
