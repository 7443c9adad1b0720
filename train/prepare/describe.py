"""What a corpus holds, as lines for people."""

from __future__ import annotations

from train.corpus import Corpus


def described(corpus: Corpus) -> list[str]:
    """Dialogues, speakers, labels and modalities of each split, as an aligned table."""
    counts = corpus.header.counts
    speakers = [str(corpus.table.filter(split=s)["speaker"].n_unique()) for s in counts]
    rows = [
        ["", *counts],
        ["dialogues", *(str(c.dialogues) for c in counts.values())],
        ["utterances", *(str(c.utterances) for c in counts.values())],
        ["speakers", *speakers],
    ]
    for label in corpus.labels:
        cells = []
        for c in counts.values():
            labelled = max(1, sum(c.labels.values()))
            cells.append(f"{c.labels[label]} ({100 * c.labels[label] / labelled:.0f} %)")
        rows.append([label, *cells])
    for modality, vectors in corpus.features.items():
        shares = [vectors.present[(corpus.table["split"] == s).to_numpy()].mean() for s in counts]
        rows.append([f"with {modality}", *(f"{100 * float(share):.0f} %" for share in shares)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = row
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
