"""``python -m annotator`` is ``annotate``; the current folder is not searched for modules either.

In a folder with an ``annotator.py`` Python runs that, before anything here: there it is ``annotate``, or
``python -P -m annotator``.
"""

import sys
from pathlib import Path

# Python puts the current folder first. A user's own train.py or model.py there would be taken for ours.
_OURS = Path(__file__).resolve().parent.parent
if sys.path and Path(sys.path[0]).resolve() == Path.cwd() != _OURS:
    del sys.path[0]

from annotator.cli import main  # noqa: E402 - only now is it clear where from

if __name__ == "__main__":
    main()
