"""The chunks of an annotation job as a data source and a data sink of Ray.

The module imports neither torch nor transformers, which the tasks that read and write do not need.
"""

from collections.abc import Iterable
from typing import Any

from ray.data import Datasink, Datasource
from ray.data import ReadTask as RayReadTask
from ray.data.block import Block, BlockAccessor, BlockMetadata
from ray.data.context import DataContext

from ..annotating.output import OutputFolder, write_parts
from ..annotating.source import Columns, ReadTask


class ChunkSource(Datasource):
    """The chunks of a job that are missing."""

    def __init__(self, tasks: list[ReadTask]) -> None:
        super().__init__()
        self._tasks = tasks

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[RayReadTask]:
        return [RayReadTask(task, BlockMetadata(task.num_rows, None, [task.file.url], None)) for task in self._tasks]


class PartSink(Datasink):
    """Writes the files of chunks, and counts rows and errors."""

    def __init__(self, folder: OutputFolder, columns: Columns) -> None:
        self._folder, self._columns = folder, columns
        self.rows = self.errors = 0

    def write(self, blocks: Iterable[Block], ctx: Any) -> int:
        tables = [BlockAccessor.for_block(block).to_arrow() for block in blocks]
        return sum(write_parts(self._folder, self._columns, table) for table in tables if table.num_rows)

    def on_write_complete(self, write_result: Any) -> None:
        self.rows, self.errors = int(write_result.num_rows), int(sum(write_result.write_returns))
