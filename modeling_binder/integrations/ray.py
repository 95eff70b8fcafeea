"""Annotate texts with Ray Data, on one machine or on many.

`annotate` adds entities to a `ray.data.Dataset`. `run` is `annotate_files` on a cluster: its actors read, annotate and
write the missing chunks of a job. A chunk is a group of rows, and it becomes one output file. The name and the content
of the file depend only on these rows. So a task may run twice without harm, for example after the loss of an actor or a
node.

`run` does not use `ray.data.checkpoint`, which reads the whole source again and keeps all ids in memory.
`ray.data.checkpoint` also duplicates rows if a task goes on after its driver was killed.
"""

import contextlib
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy
from ray.data.context import DataContext
from tqdm.auto import tqdm
from transformers.utils.logging import disable_progress_bar, get_logger

from ..annotating.annotator import Annotator, Settings, TypeVectors
from ..annotating.job import AnnotationJob, Summary
from ..annotating.output import OutputFolder, write_parts
from ..annotating.source import Columns, ReadTask
from ..loading import one_line
from .ray_cluster import connected

logger = get_logger(__name__)
Actors = int | tuple[int, int]


def annotate(
    dataset: ray.data.Dataset,
    *,
    model: str,
    text_column: str = "text",
    entities_column: str = "entities",
    error_column: str = "error",
    actors: Actors | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    rows_per_batch: int = 1000,
    **settings: Any,
) -> ray.data.Dataset:
    """Return the dataset with two new columns: the entities of each text, and errors.

    This function loads the model once, to check it and to encode the entity types. Then each actor loads it once.

    Example:
        >>> import ray
        >>> from modeling_binder.integrations.ray import annotate
        >>> dataset = ray.data.read_parquet("s3://bucket/abstracts")  # doctest: +SKIP
        >>> dataset = annotate(dataset, model="user/name", entity_types={"drug": "a medicine"})  # doctest: +SKIP
        >>> dataset.write_parquet("s3://bucket/annotated")  # doctest: +SKIP

    Args:
        dataset: a dataset with a column of texts.
        model: folder that all nodes can read, or id on the Hub.
        text_column: name of the column of texts.
        entities_column: name of the new column with lists of `{"start", "end", "label", "score", "word"}`. It is null
            if the row has an error.
        error_column: name of the new column with the error of the row, such as "there is no text". It is null if the
            row has no error.
        actors: number of actors, or the minimum and the maximum for a pool that grows and shrinks. By default, the
            actors use all GPUs and CPUs of the cluster, except the CPUs for reading and writing.
        num_cpus: CPUs of an actor.
        num_gpus: GPUs of an actor. Defaults to one GPU if the cluster has GPUs.
        rows_per_batch: number of rows in one call of an actor. The actor sorts the windows of these rows by length.
        settings: arguments of the pipeline, such as entity_types, threshold and decoding; see `Settings`.

    Raises:
        ValueError: for one of these reasons:

            - The column of texts is missing, or a new column exists already.
            - The model cannot be loaded, or an argument is invalid.
            - The cluster has too few CPUs.
            - `DataContext.checkpoint_config` is set, but Ray cannot resume this dataset.
    """
    columns = Columns(text_column, entities=entities_column, error=error_column, new_ids=False)
    _check_columns(dataset, columns)
    _check_checkpointing(dataset)
    chosen = Settings(str(model), **settings)
    # Ray's own tasks (reading, writing, and filtering by checkpoints) need free CPUs. Otherwise the job would hang.
    reserved = 1 if dataset.context.checkpoint_config is None else 2
    strategy, resources = _actors(actors, num_cpus, num_gpus, reserved)
    return dataset.map_batches(
        _Actor,
        fn_constructor_kwargs={
            "num_threads": max(1, int(num_cpus)),
            "settings": chosen,
            "columns": columns,
            "types": TypeVectors.of(Annotator(chosen, columns, device="cpu").pipeline, chosen.entity_types),
        },
        compute=ActorPoolStrategy(**strategy),
        batch_size=rows_per_batch,
        batch_format="pyarrow",
        **resources,
    )


def run(
    job: AnnotationJob,
    *,
    address: str | None = None,
    actors: Actors | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    progress: bool = True,
) -> Summary:
    """Annotate the missing rows of a job on a cluster.

    Args:
        job: a job from `annotating.job.prepare` with `check_on_cpu=True`. All nodes must be able to read its files and
            its model, and to write to its output folder.
        address: address of the cluster ("auto", "host:6379" or "ray://host:10001"). Defaults to the environment
            variable RAY_ADDRESS. If it is not set, a new cluster is started on this machine.
        actors, num_cpus, num_gpus: see `annotate`.
        progress: show a progress bar.

    Raises:
        ConnectionError: there is no cluster at the address.
        ValueError: the cluster has too few CPUs or GPUs for an actor.
        RuntimeError: an actor or a task failed, or output files are missing.
    """
    tasks = [{"task": pickle.dumps(task)} for task in job.source.tasks(job.done)]
    if not tasks:
        return job.finish(0, 0)
    settings, columns = job.annotator.settings, job.annotator.columns
    arguments = {"settings": settings, "columns": columns, "types": job.types()}
    rows = errors = 0
    with connected(address), _readable_errors():
        strategy, resources = _actors(actors, num_cpus, num_gpus, reserved=0)
        context = DataContext.get_current().copy()
        context.enable_progress_bars = context.print_on_execution_start = False
        with DataContext.current(context):
            done = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
                _PartActor,
                fn_constructor_kwargs={"num_threads": max(1, int(num_cpus)), "folder": job.folder, **arguments},
                # With two calls at a time, one call reads and writes while the other call runs the model.
                compute=ActorPoolStrategy(
                    **strategy, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
                ),
                batch_size=None,
                batch_format="pyarrow",
                **resources,
            )
            with tqdm(total=job.source.num_rows, initial=job.rows_done, unit="row", disable=not progress) as bar:
                for counts in done.iter_rows():
                    if counts["failure"] is not None:
                        raise RuntimeError(counts["failure"])
                    rows, errors = rows + counts["rows"], errors + counts["errors"]
                    bar.update(counts["rows"])
    return job.finish(rows, errors)


class _Actor:
    """An actor that loads the model once."""

    def __init__(self, num_threads: int, **arguments: Any) -> None:
        disable_progress_bar()  # transformers shows one while it loads the weights
        self._annotator: Annotator | None = None
        try:
            self._annotator = Annotator(num_threads=num_threads, **arguments)
        except Exception as error:  # the first call raises it, because Ray would report the failure of every start
            self._failure = error

    def __call__(self, table: pa.Table) -> pa.Table:
        """Add entities to a table."""
        if self._annotator is None:
            raise self._failure
        return self._annotator(table)


class _PartActor(_Actor):
    """An actor that also reads and writes tables. Calls may overlap, but only one call at a time runs the model."""

    def __init__(self, num_threads: int, folder: OutputFolder, columns: Columns, **arguments: Any) -> None:
        super().__init__(num_threads, columns=columns, **arguments)
        self._folder, self._columns, self._lock = folder, columns, threading.Lock()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Annotate the chunks of tasks. Return the number of rows, the number of errors, and the error of the call."""
        rows, errors, failure = 0, 0, None
        try:
            for pickled in table["task"].to_pylist():
                task: ReadTask = pickle.loads(pickled)
                for chunk in task():
                    with self._lock:
                        annotated = super().__call__(chunk)
                    errors += write_parts(self._folder, self._columns, annotated)
                    rows += annotated.num_rows
        except Exception as error:  # returned, because Ray would print very long messages for a raised error
            failure = f"{type(error).__name__}: {error}"
        return pa.table({"rows": [rows], "errors": [errors], "failure": pa.array([failure], pa.string())})


def _actors(
    actors: Actors | None, num_cpus: float, num_gpus: float | None, reserved: float
) -> tuple[dict[str, int], dict[str, float]]:
    """Return the size of a pool of actors, and the resources of an actor.

    Args:
        actors, num_cpus, num_gpus: see `annotate`.
        reserved: number of CPUs that must stay free for Ray's own tasks.

    Raises:
        ValueError: the numbers are not positive, or the cluster is too small for one actor.
    """
    cluster = ray.cluster_resources()
    cpus, gpus = cluster.get("CPU", 0), cluster.get("GPU", 0)
    num_gpus = (1 if gpus else 0) if num_gpus is None else num_gpus
    if num_cpus < 0 or num_gpus < 0 or num_cpus + num_gpus == 0:
        raise ValueError(f"an actor needs CPUs or GPUs, got num_cpus={num_cpus} and num_gpus={num_gpus}.")
    resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
    free = cpus - reserved
    if isinstance(actors, int):
        actors = (actors, actors)
    if actors is None:
        by_cpus = free / num_cpus if num_cpus else float("inf")
        by_gpus = gpus / num_gpus if num_gpus else float("inf")
        size = int(min(by_cpus, by_gpus) + 1e-6)
        if size < 1:
            raise ValueError(
                f"the cluster has {cpus:g} CPUs and {gpus:g} GPUs; an actor needs {num_cpus:g} CPUs and "
                f"{num_gpus:g} GPUs, and reading and writing need {reserved:g} CPUs. Lower num_cpus, which may be a "
                "fraction. If the cluster can grow, pass the number of actors."
            )
        actors = (size, size)
    low, high = actors
    if not 1 <= low <= high:
        raise ValueError(f"actors must be at least 1, or a minimum and a maximum, got {actors}.")
    if low * num_cpus > free or low * num_gpus > gpus:
        logger.warning("%d actors do not fit into the cluster; the job waits until the cluster has grown.", low)
    return {"min_size": low, "max_size": high}, resources


def _check_columns(dataset: ray.data.Dataset, columns: Columns) -> None:
    names = dataset.columns() or []
    if columns.text not in names:
        raise ValueError(f"the dataset has no column {columns.text!r}; choose the text_column from {names}.")
    for name in (columns.entities, columns.error):
        if name in names:
            raise ValueError(f"the dataset has a column {name!r} already; choose another name for the new column.")


def _check_checkpointing(dataset: ray.data.Dataset) -> None:
    """Check that Ray can resume the dataset if `DataContext.checkpoint_config` is set.

    Ray itself would only warn, and start again from the first row.

    Raises:
        ValueError: Ray cannot resume the dataset, because it is not read from files or lacks the column of ids.
    """
    config = dataset.context.checkpoint_config
    if config is None:
        return
    from ray.data._internal.planner.planner import Planner

    def starts_with_read(operator: Any) -> bool:
        inputs = operator.input_dependencies
        if isinstance(operator, Planner._CHECKPOINT_FILTER_OPS):
            return True
        return bool(inputs) and all(starts_with_read(other) for other in inputs)

    if not starts_with_read(dataset._logical_plan.dag):
        raise ValueError(
            "DataContext.checkpoint_config is set, but Ray can resume only datasets that are read from files, such as "
            "ray.data.read_parquet(...). Ray would annotate all rows of any other dataset again."
        )
    if config.id_column not in (dataset.columns() or []):
        raise ValueError(
            f"DataContext.checkpoint_config has the id_column {config.id_column!r}, but the dataset has no such "
            f"column. The columns are {dataset.columns()}."
        )


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Replace an error of Ray by a `RuntimeError` with a message of one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"{type(error).__name__}: {one_line(error):.600}") from None
