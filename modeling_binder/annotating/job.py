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
    """The numbers of rows that a job has annotated.

    Args:
        rows: number of rows that were annotated now.
        errors: number of rows among `rows` that have an error and no entities.
        done_before: number of rows that were annotated before an interruption.
    """

    rows: int
    errors: int
    done_before: int


@dataclass
class AnnotationJob:
    """A table, an output folder and a model, which have been checked. `run` annotates the table.

    Args:
        source: the table.
        folder: the output folder.
        annotator: the model with its settings.
        done: names of the chunks that the output folder contains already.
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
        """Check the arguments of `annotate_files`, and return the job; see `prepare`."""
        if id_column is not None and new_id_column is not None:
            raise ValueError(
                "id_column is a column of the source, new_id_column is a new column; pass only one of them."
            )
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
        folder.check(parameters)  # check before `Source` scans the files, which may take minutes
        table = Source(files, columns, rows_per_part, str(source))
        folder.check_schema(table.schema)
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
        """Annotate the chunks that are missing in the output folder, in this process."""
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
        """Check that the output folder has all rows, and mark it as complete.

        Raises:
            RuntimeError: output files are missing.
        """
        self.folder.finish({chunk.name for chunk in self.source.chunks})
        return Summary(rows, errors, self.rows_done)


def annotate_files(
    source: str | Path, target: str | Path, model: str | Path, *, progress: bool = True, **options: Any
) -> Summary:
    """Find the entities of the texts of a table, and write the table with its entities.

    The output is a folder with one file for every `rows_per_part` rows, in the order of the source. The files have all
    columns of the source and two new columns. The column `entities` has lists of
    `{"start", "end", "label", "score", "word"}`. If a row fails (no text, broken bytes), its entities are null and the
    column `error` has the reason. If the process is killed, make the same call again: it annotates only the missing
    rows.

    Args:
        source: a JSONL, CSV or Parquet file, a folder of these files, or a pattern, as a local path or an fsspec URL
            (s3://, gs://, hf://). Or the id of a dataset on the Hub.
        target: the output folder, as a local path or an fsspec URL.
        model: folder, or id on the Hub.
        progress: show a progress bar.
        options: the arguments of `Settings`, and these options:

            - `text_column`: column of texts (default "text").
            - `id_column`: column of ids, which must be unique (default "id", if the source has this column).
            - `new_id_column`: new column of ids, made from file and row (default "id", if the source has none).
            - `entities_column` (default "entities") and `error_column` (default "error"): names of the new columns.
            - `format`: "parquet" (default) or "jsonl".
            - `rows_per_part`: number of rows in an output file (default 1,000).
            - `split` and `config`: split and configuration of a dataset on the Hub.

    Raises:
        ValueError: the source, the model or an option is wrong, or the output folder belongs to another job.
        RuntimeError: output files are missing.
    """
    return prepare(source, target, model, **options).run(progress)


def prepare(source: str | Path, target: str | Path, model: str | Path, **options: Any) -> AnnotationJob:
    """Check the arguments of `annotate_files`, and return the job.

    Args:
        source, target, model, options: see `annotate_files`. With the option `check_on_cpu`, this process loads the
            model on the CPU, because the actors of a cluster may need the whole memory of the GPU.

    Raises:
        ValueError: see `annotate_files`.
    """
    settings = {name: options.pop(name) for name in list(options) if name in Settings.__dataclass_fields__}
    return AnnotationJob.prepare(source, target, Settings(str(model), **settings), **options)


def _absolute(path: str | Path) -> str:
    """Return a local path as an absolute path, because the processes of Ray run in other folders."""
    return str(path) if "://" in str(path) else str(Path(path).absolute())
