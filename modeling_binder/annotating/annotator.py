"""Find the entities of the texts of a table."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from ..loading import load_pipeline, one_line
from ..pipeline_binder import BinderNerPipeline
from ..thresholds_binder import type_temperatures, type_thresholds
from ..types_binder import EncodedTypes, EntityTypes
from .source import Columns

ENTITIES = pa.list_(
    pa.struct(
        [
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("label", pa.string()),
            ("score", pa.float64()),
            ("word", pa.string()),
        ]
    )
)
_ENCODERS = ("*.onnx", "*.onnx.data", "*_encoder.xml", "*_encoder.bin")  # encoders of `binder-ner export`
_WEIGHTS = ("*.json", "*.safetensors", *_ENCODERS, "*.txt", "*.model", "type_tokenizer/*")


@dataclass(frozen=True)
class Settings:
    """The model and the arguments of the pipeline; see `BinderNerPipeline`.

    Args:
        model: folder, or id on the Hub.
        revision: branch, tag or commit on the Hub.
        entity_types, threshold, decoding, inference, max_length, stride, batch_size: arguments for calls of the
            pipeline.
        device: device of the model. Defaults to the first GPU, if there is one.
        dtype: data type of the weights. Defaults to the data type of the checkpoint.
    """

    model: str
    revision: str | None = None
    entity_types: EntityTypes | None = None
    threshold: float | Mapping[str, float] | None = None
    decoding: str | None = None
    inference: str | None = None
    max_length: int | None = None
    stride: int | None = None
    batch_size: int | None = None
    device: str | int | None = None
    dtype: str | None = None

    def load(self, device: str | None = None) -> BinderNerPipeline:
        """Load the model.

        Args:
            device: the device to use instead of the device in the settings.

        Raises:
            ValueError: the model cannot be loaded, or it is not a BINDER model.
        """
        options = {"revision": self.revision, "device": device or self.device, "dtype": self.dtype or "auto"}
        return load_pipeline(self.model, **options)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments for calls of the pipeline."""
        constructor = ("model", "revision", "device", "dtype")
        return {name: value for name, value in vars(self).items() if name not in constructor and value is not None}


class TypeVectors(NamedTuple):
    """Encoded entity types as NumPy arrays, which can be sent to other processes.

    Args:
        descriptions: descriptions of the T entity types.
        vectors: [T, 3, D]: three vectors of size D for each type, see `EncodedTypes`.
        breadths: [T], see `EncodedTypes`. None if the model does not use breadth.
    """

    descriptions: tuple[str, ...]
    vectors: np.ndarray
    breadths: np.ndarray | None

    @classmethod
    def of(cls, loaded: BinderNerPipeline, entity_types: EntityTypes | None) -> "TypeVectors":
        """Encode the entity types of a call."""
        descriptions = tuple(entity_type.description for entity_type in loaded._resolve(entity_types))
        with loaded.get_inference_context()():
            vectors, breadths = loaded._encoded(descriptions)
        return cls(descriptions, vectors.cpu().numpy(), None if breadths is None else breadths.cpu().numpy())

    def add_to(self, loaded: BinderNerPipeline) -> None:
        """Add the vectors to the cache of a pipeline with the same weights, which then does not compute them again."""
        breadths = None if self.breadths is None else torch.tensor(self.breadths, device=loaded.device)
        encoded = EncodedTypes(torch.tensor(self.vectors, device=loaded.device), breadths)
        loaded._type_cache.add(loaded.model, loaded.tokenizer, self.descriptions, encoded)


class Annotator:
    """Adds two columns to a table: the entities of each text, and an error for each row that cannot be annotated.

    Args:
        settings: the model and the arguments of the pipeline.
        columns: names of columns.
        types: the encoded entity types, if another process has already encoded them.
        num_threads: number of CPU threads. Defaults to PyTorch's choice.
        device: the device to use instead of the device in the settings.

    Raises:
        ValueError: the model cannot be loaded, or an argument of the pipeline is invalid.
    """

    def __init__(
        self,
        settings: Settings,
        columns: Columns,
        types: TypeVectors | None = None,
        num_threads: int | None = None,
        device: str | None = None,
    ) -> None:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self.settings, self.columns = settings, columns
        self.pipeline = settings.load(device)
        if types is not None:
            types.add_to(self.pipeline)
        self.pipeline([], **settings.arguments)  # raises if an argument is invalid

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the table with a column of entities and a column of errors.

        The entities of a row with an error are null.

        Args:
            table: a table with a column of texts. If it has a column of errors already, rows with an error in this
                column are not annotated.
        """
        errors = table[self.columns.error].to_pylist() if self.columns.error in table.column_names else []
        errors = errors or [None] * table.num_rows
        texts = _texts(table[self.columns.text], errors)
        rows = [row for row, error in enumerate(errors) if error is None]
        entities: list[list[dict[str, Any]] | None] = [None] * table.num_rows
        for row, found in zip(rows, self._find([texts[row] for row in rows]), strict=True):
            if isinstance(found, str):
                errors[row] = found
            else:
                entities[row] = [{"label": entity["entity_group"], **entity} for entity in found]
        return _with_column(
            _with_column(table, self.columns.entities, pa.array(entities, ENTITIES)),
            self.columns.error,
            pa.array(errors, pa.string()),
        )

    def _find(self, texts: Sequence[Any]) -> list[list[dict[str, Any]] | str]:
        """Return for each text its entities, or the error that it causes."""
        try:
            return list(self.pipeline(list(texts), **self.settings.arguments))
        except Exception as error:
            if len(texts) < 2:
                return [f"{type(error).__name__}: {one_line(error)[:600]}" for _ in texts]
            # Try each text separately. If only some texts fail, the job continues. If all texts fail, it ends.
            found = [self._find([text])[0] for text in texts]
            if all(isinstance(result, str) for result in found):
                raise
            return found

    def parameters(self) -> dict[str, Any]:
        """Return all settings that change the entities, as a dictionary for JSON."""
        settings, config = self.settings, self.pipeline.model.config
        types = self.pipeline._resolve(settings.entity_types)
        temperatures = type_temperatures(config, types)
        return {
            "model": self._model_version(),
            "entity types": [[entity_type.label, entity_type.description, entity_type.parent] for entity_type in types],
            "threshold": [round(value, 6) for value in type_thresholds(config, types, settings.threshold)],
            **({} if temperatures is None else {"temperature": temperatures.tolist()}),
            "decoding": settings.decoding or config.decoding,
            "inference": settings.inference or config.inference,
            "max_length": settings.max_length or config.max_length,
            "stride": config.stride if settings.stride is None else settings.stride,
            "dtype": str(self.pipeline.model.dtype).removeprefix("torch."),
        }

    def _model_version(self) -> str:
        """Return an identifier of the weights: the commit on the Hub, or a digest of the files in the folder."""
        folder = Path(self.settings.model)
        if not folder.is_dir():
            return f"{self.settings.model} at {self.pipeline.model.config._commit_hash}"
        digest = hashlib.blake2b(digest_size=16)
        for path in sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern) if path.is_file()}):
            with path.open("rb") as file:
                digest.update(path.name.encode())
                while block := file.read(2**22):
                    digest.update(block)
        return f"{folder.resolve().name} with the digest {digest.hexdigest()}"


def _texts(column: pa.ChunkedArray, errors: list[str | None]) -> list[str | None]:
    """Return the texts of a column. Write an error to `errors` for each row whose text is missing or not UTF-8."""
    values = column.to_pylist()
    for row, value in enumerate(values):
        if errors[row] is not None:
            continue
        if value is None:
            errors[row] = "there is no text"
        elif isinstance(value, bytes):
            try:
                values[row] = value.decode("utf-8")
            except UnicodeDecodeError as error:
                errors[row] = f"byte {error.start} of the text, 0x{value[error.start]:02x}, is not UTF-8"
    return values


def _with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)
