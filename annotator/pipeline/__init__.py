"""Many recordings side by side: prepared in worker processes, labelled in batches, merged to a table."""

from annotator.pipeline.batch import RunResult, choose_backends, run
from annotator.pipeline.outputs import merge_work_folders
from annotator.pipeline.progress import Progress

__all__ = ["Progress", "RunResult", "choose_backends", "merge_work_folders", "run"]
