"""How far a run is: a bar on a terminal, or a function that is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from tqdm import tqdm

from annotator.terminal import escaped


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    A recording is done when its features are there, or it has failed; the network labels them in batches.
    """

    done_s: float  # seconds of recording that are done
    total_s: float  # of all that were looked at so far: grows while the run looks through its inputs
    recordings_done: int
    recordings: int  # inputs of the run
    file: str | None  # the recording that was begun last


OnProgress = Callable[[Progress], None]


class Meter:
    """Tells of the progress of a run.

    Args:
        recordings: inputs of the run.
        to: a function that gets every step; True: a bar, if standard error is a terminal; False: nobody.
    """

    def __init__(self, recordings: int, to: bool | OnProgress) -> None:
        self._now = Progress(0.0, 0.0, 0, recordings, None)
        self._tell = to if callable(to) else None
        self._bar: Any = tqdm(
            total=0,
            disable=None if to is True else True,  # None: only on a terminal
            bar_format="{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]",
        )

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def found(self, duration_s: float) -> None:
        """A recording is to come."""
        self._bar.total += duration_s
        self._step(total_s=self._now.total_s + duration_s)

    def begun(self, file: str) -> None:
        """A worker has it in hand."""
        self._bar.set_postfix_str(escaped(file))
        self._step(file=file)

    def done(self, duration_s: float) -> None:
        """A recording is done, or failed."""
        self._bar.update(duration_s)
        self._step(done_s=self._now.done_s + duration_s, recordings_done=self._now.recordings_done + 1)

    def _step(self, **changed: Any) -> None:
        self._now = replace(self._now, **changed)
        if self._tell is not None:
            self._tell(self._now)
