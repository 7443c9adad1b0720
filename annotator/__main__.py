"""``python -m annotator`` is ``annotate``."""

from annotator.cli import main

if __name__ == "__main__":
    main()
