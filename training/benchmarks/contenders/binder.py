"""The pipeline of binder-ner as a contender of the speed benchmark."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .base import Contender, Job, step_timer
from .floor import binder_trainer, check_dtype, dtype_of


class Binder(Contender):
    """The "binder-ner" pipeline, on torch or with an export (options `export`: "onnx" or "openvino", and `int8`)."""

    libraries = ("binder-ner", "torch", "transformers", "onnxruntime", "openvino", "nncf")

    def import_libraries(self) -> None:
        from transformers import pipeline

        import modeling_binder  # noqa: F401

        self.pipeline = pipeline

    def build(self, folder: Path) -> str | None:
        """Export the checkpoint if the option `export` is set.

        The export is accepted even if it lowers F1. The method returns the comparison with the checkpoint as a note.

        Raises:
            RuntimeError: the export failed, or the CPU has no bfloat16 instructions.
        """
        check_dtype(self.options)
        if "export" not in self.options:
            return None
        form = self.options["export"]
        command = [sys.executable, "-m", "modeling_binder.backends", form, self.settings.model, str(folder)]
        if self.options.get("int8"):
            command += ["--int8", "--max-loss", "100"]
            command += ["--data", self.settings.held_out] if self.settings.held_out else []
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            last_line = (done.stdout.strip().splitlines() or ["no output"])[-1]
            raise RuntimeError(f"python {' '.join(command[1:4])} failed: {last_line}")
        check: str = json.loads((folder / "export.json").read_text(encoding="utf-8"))["check"]
        return check

    def load(self, folder: Path) -> None:
        exported = "export" in self.options
        dtype = {} if exported else {"dtype": dtype_of(self.options)}
        self.ner = self.pipeline(
            "binder-ner",
            model=str(folder) if exported else self.settings.model,
            batch_size=self.settings.batch_size,
            device="cpu",
            **dtype,
        )

    def run(self, job: Job) -> int:
        return sum(map(len, self.ner(list(job.texts), entity_types=job.types)))

    def encode_types(self, types: dict[str, str]) -> None:
        self.ner.type_vectors(types)

    def training_steps(self, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        timer = step_timer()
        binder_trainer(self.settings, documents, types, steps, callbacks=[timer]).train()
        return {"seconds": timer.seconds}
