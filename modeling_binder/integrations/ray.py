"""Annotate with Ray Data, on one machine or many.

`annotate` adds entities to a `ray.data.Dataset`. `run` does what `annotate_files` does, on a cluster: it reads,
annotates and writes the chunks of a job that are missing. Each chunk is written to a file of its own, so a task may run
twice: after a worker or a node was lost, or when it outlives its driver. `ray.data.checkpoint` is not used here: it
reads the whole source again, keeps all ids in memory, and doubles rows that a task writes after its driver was killed.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy
from ray.data.context import DataContext
from transformers.utils.logging import disable_progress_bar

from ..annotating.annotator import Annotator, Settings, TypeVectors
from ..annotating.job import AnnotationJob, Summary
from ..annotating.source import Columns
from .ray_tables import ChunkSource, PartSink

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
    """Add the entities of its texts to a dataset.

    The model is loaded here once, to check it and to encode the entity types, and then once in each actor.

    Example:
        >>> import ray
        >>> from modeling_binder.integrations.ray import annotate
        >>> dataset = ray.data.read_parquet("s3://bucket/abstracts")  # doctest: +SKIP
        >>> dataset = annotate(dataset, model="user/name", entity_types={"drug": "a medicine"})  # doctest: +SKIP
        >>> dataset.write_parquet("s3://bucket/annotated")  # doctest: +SKIP

    Args:
        dataset: with a column of texts.
        model: folder that all nodes can read, or id on the Hub.
        text_column: the texts.
        entities_column: added: a list of `{"start", "end", "label", "score", "word"}`; null if the row has an error.
        error_column: added: why a row has no entities ("there is no text"), or null.
        actors: number of actors, or the minimum and the maximum for a pool that grows and shrinks. Defaults to the
            number of GPUs, or of CPUs divided by `num_cpus`, in the cluster.
        num_cpus, num_gpus: of an actor. One GPU is the default if the cluster has any.
        rows_per_batch: number of rows that an actor gets at once; it sorts their windows by length.
        settings: arguments of the pipeline: entity_types, threshold, decoding and others; see `Settings`.

    Raises:
        ValueError: the dataset lacks the column of texts or has one of the others; the model cannot be loaded; an
            argument is invalid; or `DataContext.checkpoint_config` is set for a dataset that Ray cannot resume.
    """
    columns = Columns(text_column, entities=entities_column, error=error_column, new_ids=False)
    _check_columns(dataset, columns)
    _check_checkpointing(dataset)
    chosen = Settings(str(model), **settings)
    types = TypeVectors.of(Annotator(chosen, columns).pipeline, chosen.entity_types)
    return _map(dataset, _Actor.arguments(chosen, columns, types), actors, num_cpus, num_gpus, rows_per_batch)


def run(
    job: AnnotationJob,
    *,
    address: str | None = None,
    actors: Actors | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    progress: bool = True,
) -> Summary:
    """Annotate what the folder of a job lacks, on a cluster.

    Args:
        job: see `annotating.job.prepare`. All nodes must be able to read its files and its model and to write to its
            folder.
        address: of the cluster ("auto", "host:6379" or "ray://host:10001"). Defaults to the cluster of the environment
            variable RAY_ADDRESS, or else to a new one on this machine.
        actors, num_cpus, num_gpus: see `annotate`.
        progress: show progress bars.

    Raises:
        ConnectionError: there is no cluster at the address.
        RuntimeError: an actor or a task failed; or files of the output are missing.
    """
    tasks = list(job.source.tasks(job.done))
    if not tasks:
        return job.finish(0, 0)
    folder, columns = job.folder, job.annotator.columns
    arguments = _Actor.arguments(job.annotator.settings, columns, job.types())
    sink = PartSink(folder, columns)
    with _connected(address):
        context = DataContext.get_current().copy()
        context.target_max_block_size = None  # a block is not split, so that it has all rows of its chunks
        context.enable_progress_bars = progress
        context.print_on_execution_start = False
        with DataContext.current(context), _readable_errors():
            # Tasks without CPUs run beside actors that have taken all of them. Each needs a process, so they are few.
            concurrency = 1 + len(ray.nodes()) // 4
            dataset = ray.data.read_datasource(
                ChunkSource(tasks), num_cpus=0, override_num_blocks=len(tasks), concurrency=concurrency
            )
            dataset = _map(dataset, arguments, actors, num_cpus, num_gpus, None)
            dataset.write_datasink(sink, ray_remote_args={"num_cpus": 0}, concurrency=concurrency)
    return job.finish(sink.rows, sink.errors)


class _Actor:
    """An actor that loads the model once, with the number of threads of its CPUs."""

    def __init__(self, num_threads: int, **arguments: Any) -> None:
        self._annotator: Annotator | None = None
        disable_progress_bar()  # of the weights that are loaded
        try:
            self._annotator = Annotator(num_threads=num_threads, **arguments)
        except Exception as error:  # if actors do not start, Ray reports it for each of them
            self._failure = error

    @staticmethod
    def arguments(settings: Settings, columns: Columns, types: TypeVectors) -> dict[str, Any]:
        return {"settings": settings, "columns": columns, "types": types}

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._annotator is None:
            raise self._failure
        return self._annotator(table)


def _map(
    dataset: ray.data.Dataset,
    arguments: dict[str, Any],
    actors: Actors | None,
    num_cpus: float,
    num_gpus: float | None,
    batch_size: int | None,
) -> ray.data.Dataset:
    resources = ray.cluster_resources()
    if num_gpus is None:
        num_gpus = 1 if resources.get("GPU") else 0
    if actors is None:
        possible = resources.get("GPU", 0) / num_gpus if num_gpus else resources.get("CPU", 1) / max(num_cpus, 0.01)
        actors = max(1, int(possible))
    low, high = (actors, actors) if isinstance(actors, int) else actors
    if not 1 <= low <= high:
        raise ValueError(f"actors must be at least 1, or a minimum and a maximum, got {actors}.")
    return dataset.map_batches(
        _Actor,
        fn_constructor_kwargs={"num_threads": max(1, int(num_cpus)), **arguments},
        compute=ActorPoolStrategy(min_size=low, max_size=high),
        batch_size=batch_size,
        batch_format="pyarrow",
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )


def _check_columns(dataset: ray.data.Dataset, columns: Columns) -> None:
    names = dataset.columns() or []
    if columns.text not in names:
        raise ValueError(f"the dataset has no column {columns.text!r}; choose the text_column from {names}.")
    for name in (columns.entities, columns.error):
        if name in names:
            raise ValueError(f"the dataset has a column {name!r} already; choose another name for the new one.")


def _check_checkpointing(dataset: ray.data.Dataset) -> None:
    """Raise an error where Ray only warns that a job does not resume and runs it from the start.

    Raises:
        ValueError: there is a checkpoint configuration, and the dataset does not start with a read, or lacks the ids.
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
            "DataContext.checkpoint_config is set, but Ray can resume only datasets that are read from files, as by "
            "ray.data.read_parquet(...); a dataset from memory would be annotated from the start."
        )
    if config.id_column not in (dataset.columns() or []):
        raise ValueError(
            f"DataContext.checkpoint_config names the ids {config.id_column!r}, and the dataset has no such column "
            f"but {dataset.columns()}."
        )


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one; disconnect at the end, unless there was a connection."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, include_dashboard=None if address else False, logging_level="warning")
    except ConnectionError as error:
        where = f"at {address}" if address else "at RAY_ADDRESS"
        raise ConnectionError(f"there is no Ray cluster {where} ({' '.join(str(error).split()):.300})") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Raise what went wrong in an actor or a task, without the tracebacks of Ray."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause: BaseException = error
        while (inner := getattr(cause, "cause", None) or cause.__cause__) is not None and inner is not cause:
            cause = inner
        raise RuntimeError(f"{type(cause).__name__}: {cause}") from None
