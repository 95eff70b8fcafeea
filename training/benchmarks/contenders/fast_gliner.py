"""fast_gliner as a contender of the speed benchmark. It runs GLiNER with one encoder in Rust and onnxruntime.

The library has no argument for the minimum score of an entity. So the level is subtracted from the scores in the ONNX
file, and another level needs another file. All files share the weights.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .base import Contender, Job, characters_of_words
from .gliner import Gliner

WORD = re.compile(r"\w+(?:[-_]\w+)*|\S")  # the words of the library
MAX_WORDS = 512  # the library ignores the following words of a text
MODEL, WEIGHTS, AT_LEVEL = "model.onnx", "weights.bin", "at_level.onnx"


class FastGliner(Contender):
    """GLiNER with one encoder in fast_gliner. The library chooses the number of threads."""

    libraries = ("fast_gliner", "gliner", "torch")
    untrained = True

    def import_libraries(self) -> None:
        import fast_gliner

        self.library = fast_gliner

    def build(self, folder: Path) -> None:
        gliner = Gliner(self.settings)
        gliner.import_libraries()
        gliner.build(folder)
        gliner.load(folder)
        exported = folder / "exported"
        gliner.model.export_to_onnx(exported)
        self._with_level(exported / MODEL)

    def _with_level(self, path: Path) -> None:
        """Subtract a level from the scores of an ONNX file, and store its weights in a separate file."""
        import onnx

        model = onnx.load(path)
        scores = model.graph.output[0].name
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["scores" if name == scores else name for name in names]
        model.graph.initializer.append(self._tensor(0.0))
        model.graph.node.append(onnx.helper.make_node("Sub", ["scores", "level"], [scores]))
        onnx.save_model(model, path, save_as_external_data=True, location=WEIGHTS)

    def _tensor(self, level: float) -> Any:
        import onnx

        return onnx.helper.make_tensor("level", onnx.TensorProto.FLOAT, [], [level])

    def load(self, folder: Path) -> None:
        self.folder = folder / "exported"
        self.model, self._level = self.library.FastGLiNER.from_pretrained(str(self.folder), MODEL), 0.0

    def prepare(self, job: Job) -> None:
        """Load the model with the level of the job, unless it is loaded already."""
        if job.level == self._level:
            return
        import onnx

        model = onnx.load(self.folder / MODEL, load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.name == "level":
                tensor.CopyFrom(self._tensor(job.level))
        onnx.save_model(model, self.folder / AT_LEVEL)
        del self.model  # so that only one model is in memory
        self.model, self._level = self.library.FastGLiNER.from_pretrained(str(self.folder), AT_LEVEL), job.level

    def run(self, job: Job) -> int:
        size, labels = self.settings.batch_size, list(job.types)
        batches: list[Sequence[str]] = [job.texts[begin : begin + size] for begin in range(0, len(job.texts), size)]
        return sum(len(found) for batch in batches for found in self.model.predict_entities(list(batch), labels))

    def characters_read(self, text: str, types: dict[str, str]) -> int:
        return characters_of_words(text, [word.end() for word in WORD.finditer(text)], MAX_WORDS)
