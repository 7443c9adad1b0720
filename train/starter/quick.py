"""A small part of the public corpora in their own layout, for a check of the whole way in a minute or two."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl

from annotator import folders
from annotator.encode.face import FaceNetConfig

DIALOGUES = {"meld": 12, "mmeld": 4, "emorynlp": 40}  # of each split
COMMENTS = 100  # of each split of GoEmotions
FACES = 200  # of each split and label: every pool that faces are drawn from needs some
SMALL_FACES = FaceNetConfig(growth=8, blocks=(2, 2, 2), stem=16)  # the full one takes minutes even of these
CLIPS = 200  # of each speech corpus, about; chosen where they are read


def smaller(data: Path, out: Path) -> Path:
    """Write the small part of faces and dialogues to ``out``, and link the speech. Returns ``out``."""
    folders.claim(out, "the folder of the smaller data")
    folders.remove(out)
    folders.claim(out, "the folder of the smaller data")
    (out / "faces").mkdir(parents=True)
    faces = pl.read_parquet(data / "faces" / "fer2013.parquet")
    few = faces.filter(pl.int_range(pl.len()).over("split", "label") < FACES)
    few.write_parquet(out / "faces" / "fer2013.parquet")
    for corpus, count in DIALOGUES.items():
        target = out / "dialogues" / corpus
        target.mkdir(parents=True)
        for source in (data / "dialogues" / corpus).glob("*.csv"):
            table = pl.read_csv(source, infer_schema=False)
            if "Dialogue_ID" in table.columns:
                first = table["Dialogue_ID"].unique(maintain_order=True)[:count].to_list()
                table.filter(pl.col("Dialogue_ID").is_in(first)).write_csv(target / source.name)
    target = out / "dialogues" / "goemotions"
    target.mkdir()
    shutil.copyfile(data / "dialogues" / "goemotions" / "emotions.txt", target / "emotions.txt")
    for split in ("train", "dev", "test"):
        lines = (data / "dialogues" / "goemotions" / f"{split}.tsv").read_text("utf-8").splitlines(True)
        (target / f"{split}.tsv").write_text("".join(lines[:COMMENTS]), "utf-8")
    (out / "speech").symlink_to((data / "speech").resolve())
    return out
