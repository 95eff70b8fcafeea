"""Annotate the texts of a table, in a process on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from ..machine import versions
from .annotator import Annotator, Settings, TypeVectors
from .files import find_files
from .output import OutputFolder, write_parts
from .source import Columns, Source

ROWS_PER_PART = 1000


class Summary(NamedTuple):
    """What a run has done.

    Args:
        rows: number of rows that it has annotated. errors: number of these rows that have an error and no entities.
        done_before: number of rows that earlier runs had annotated.
    """

    rows: int
    errors: int
    done_before: int


@dataclass
class AnnotationJob:
    """A table, the folder that it is written to, and a model: all checked, nothing annotated.

    Args:
        source: the table.
        folder: the output folder.
        annotator: holds the model.
        done: names of the chunks that the folder holds already.
    """

    source: Source
    folder: OutputFolder
    annotator: Annotator
    done: set[str]

    @classmethod
    def prepare(
        cls,
        source: str | Path,
        target: str | Path,
        settings: Settings,
        *,
        text_column: str = "text",
        id_column: str | None = None,
        new_id_column: str | None = None,
        entities_column: str = "entities",
        error_column: str = "error",
        format: str = "parquet",
        rows_per_part: int = ROWS_PER_PART,
        split: str | None = None,
        config: str | None = None,
        check_on_cpu: bool = False,
    ) -> "AnnotationJob":
        """Check everything that `annotate_files` needs; see `prepare`."""
        if id_column is not None and new_id_column is not None:
            raise ValueError("id_column is a column of the source, new_id_column one to add; give only one of them.")
        columns = Columns(
            text_column,
            id_column or new_id_column or "id",
            entities_column,
            error_column,
            new_ids=None if id_column is None and new_id_column is None else new_id_column is not None,
        )
        folder = OutputFolder(_absolute(target), format)
        files = find_files(_absolute(source) if Path(source).exists() else source, split, config)
        annotator = Annotator(settings, columns, device="cpu" if check_on_cpu else None)
        parameters = {
            "files": {file.name: [file.size, file.version] for file in files},
            **{f"{name}_column": getattr(columns, name) for name in ("text", "id", "entities", "error")},
            "new_ids": columns.new_ids,
            "format": format,
            "rows_per_part": rows_per_part,
            **annotator.parameters(),
        }
        folder.check(parameters)  # before the scan of the source, which may take minutes
        table = Source(files, columns, rows_per_part, str(source))
        folder.start(parameters, {"source": str(source), "versions": versions()})
        return cls(table, folder, annotator, folder.done())

    @property
    def rows_done(self) -> int:
        """Number of rows in the chunks of `done`."""
        return sum(chunk.rows for chunk in self.source.chunks if chunk.name in self.done)

    def types(self) -> TypeVectors:
        """Return the encoded entity types."""
        return TypeVectors.of(self.annotator.pipeline, self.annotator.settings.entity_types)

    def run(self, progress: bool = True) -> Summary:
        """Annotate what the folder lacks, in this process."""
        rows = errors = 0
        with tqdm(total=self.source.num_rows, initial=self.rows_done, unit="row", disable=not progress) as bar:
            for task in self.source.tasks(self.done):
                for table in task():
                    table = self.annotator(table)
                    errors += write_parts(self.folder, self.annotator.columns, table)
                    rows += table.num_rows
                    bar.update(table.num_rows)
        return self.finish(rows, errors)

    def finish(self, rows: int, errors: int) -> Summary:
        """Check that all rows are in the folder and mark it as complete.

        Raises:
            RuntimeError: files of chunks are missing.
        """
        self.folder.finish({chunk.name for chunk in self.source.chunks})
        return Summary(rows, errors, self.rows_done)


def annotate_files(
    source: str | Path, target: str | Path, model: str | Path, *, progress: bool = True, **options: Any
) -> Summary:
    """Find the entities of the texts of a table, and write the table with them.

    The output is a folder with one file for every `rows_per_part` rows, in the order of the source, with all columns of
    the source and `entities`, a list of `{"start", "end", "label", "score", "word"}`. A row that fails (no text, broken
    bytes) has null as `entities`, and the reason in `error`. If the process is killed, the same call annotates the rows
    that are missing, and no row twice.

    Args:
        source: a JSONL, CSV or Parquet file, a folder of such files or a pattern, local or as an fsspec URL
            (s3://, gs://, hf://), or the id of a dataset on the Hub.
        target: folder, local or as an fsspec URL.
        model: folder, or id on the Hub.
        progress: show a progress bar.
        options: `text_column` (default "text"); `id_column` (default "id", if there is one; ids must be unique);
            `new_id_column`, a column for ids made from file and row (default "id", if the source has none);
            `entities_column`, `error_column`; `format` ("parquet" or "jsonl"); `rows_per_part` (default 1,000);
            `split` and `config` of a dataset on the Hub; and the arguments of `Settings`.

    Raises:
        ValueError: the source, the model or an option is wrong, or the folder belongs to a job with other parameters.
        RuntimeError: files of the output are missing.
    """
    return prepare(source, target, model, **options).run(progress)


def prepare(source: str | Path, target: str | Path, model: str | Path, **options: Any) -> AnnotationJob:
    """Check everything that `annotate_files` needs; return the job.

    Args:
        source, target, model, options: see `annotate_files`. With the option `check_on_cpu`, the model is loaded into
            the memory of the CPU: the actors of a cluster may need all of the GPU.

    Raises:
        ValueError: see `annotate_files`.
    """
    settings = {name: options.pop(name) for name in list(options) if name in Settings.__dataclass_fields__}
    return AnnotationJob.prepare(source, target, Settings(str(model), **settings), **options)


def _absolute(path: str | Path) -> str:
    """Return a path on this machine as an absolute one, because the processes of Ray run in other folders."""
    return str(path) if "://" in str(path) else str(Path(path).absolute())
