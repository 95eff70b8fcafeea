"""A Ray driver that calls `annotate` on datasets, and writes the results and the errors to a JSON file.

The results are not printed, because Ray also prints to stdout, even after the driver's last line.
"""

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.data.checkpoint import CheckpointConfig

from modeling_binder.annotating.job import prepare
from modeling_binder.integrations.ray import annotate, run


def error_of(function, *arguments, **options):
    """Call a function, and return its error as text, or `None` if it raises no error."""
    try:
        function(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def main(folder, checkpoint, out):
    folder, found = Path(folder), {}
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items([{"text": f"the IL-{row} gene in cells", "n": row} for row in range(12)])
    one = {"model": checkpoint, "actors": 1, "num_cpus": 0.5}
    found["rows"] = annotate(dataset, entity_types=["Gene", "drug"], rows_per_batch=5, **one).take_all()
    found["no column"] = error_of(annotate, dataset, text_column="body", **one)
    found["column exists"] = error_of(annotate, dataset, error_column="n", **one)
    found["too few CPUs"] = error_of(annotate, dataset, model=checkpoint, num_cpus=500)
    found["no actors"] = error_of(annotate, dataset, model=checkpoint, actors=(2, 1))
    found["no model"] = error_of(annotate, dataset, model=str(folder / "nowhere"))

    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig("id", str(folder / "checkpoints"))
    in_memory = ray.data.from_items([{"text": "the gene", "id": "a"}])
    pq.write_table(pa.table({"text": ["the gene"], "n": [0]}), folder / "table.parquet")
    in_files = ray.data.read_parquet(str(folder / "table.parquet"))
    context.checkpoint_config = None
    found["in memory"] = error_of(annotate, in_memory, **one)
    found["no ids"] = error_of(annotate, in_files, **one)

    # `prepare` loads the model in the driver. Then the checkpoint is deleted, so the actors cannot load the model.
    job = prepare(folder / "table.jsonl", folder / "lost", checkpoint, rows_per_part=5)
    shutil.rmtree(checkpoint)
    found["no model in actors"] = error_of(run, job, actors=1, num_cpus=0.5, progress=False)
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
