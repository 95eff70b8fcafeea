"""The entity types of a call of the pipeline: find their descriptions and parents, and encode and cache them."""

import operator
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from transformers.utils.logging import tqdm

from .breadth_binder import broader_types
from .configuration_binder import ancestors
from .encoders_binder import execution_device
from .processing_binder import BinderWindower

MAX_CACHED_TYPES = 2**14  # maximum number of types in the cache, about 25 MB; the oldest types are dropped first
MAX_BATCH_TOKENS = 2**11  # maximum number of tokens in a batch of descriptions
MAX_PROBE_VALUES = 2**6  # maximum number of values that are compared in a row or a column of a weight
# The tokens of this text show whether a tokenizer treats letters, case, accents, digits or punctuation differently.
_PROBE_TEXT = "Sphinx of black quartz, judge my vow: \u00c9\ufb01 1\u20132"
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))  # attributes that all modules have

EntityTypes: TypeAlias = str | Sequence[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]
_KEYS = ("name", "description", "parent")


class EntityType(NamedTuple):
    """An entity type of a call.

    Args:
        label: name of the type in the results.
        description: the text that the type encoder encodes.
        parent: label of the parent among the types of the call, or None.
        own_label: the type of the model with the same name as `label` (see `_name_key`) and the same description, or
            None if the model does not have such a type.
    """

    label: str
    description: str
    parent: str | None = None
    own_label: str | None = None


def resolve_entity_types(
    entity_types: EntityTypes | None, own_types: Iterable[Mapping[str, Any]] | None
) -> list[EntityType]:
    """Return the entity types of a call, with their descriptions and parents.

    Args:
        entity_types: names, name -> description, name -> `{"description", "parent"}`, or a list of `{"name",
            "description", "parent"}` dictionaries. `None` means all types of the model. A name without a description
            gets the description of the model's type with this name, ignoring case, white space and Unicode forms
            ("gene" finds "Gene"). If the model does not have this type, the name is also the description. If the call
            gives no parent for a type of the model, the parent is its nearest ancestor in the call.
        own_types: the types of the model, as in `config.entity_types`.

    Raises:
        ValueError: for one of these reasons:

            - There is no type, or a name appears twice.
            - Two names without descriptions match the same type of the model.
            - A name or a description is blank or not a string.
            - A parent is not a type of the call, or makes a type its own ancestor.
        TypeError: `entity_types` has another form.
    """
    own = {entity_type["name"]: entity_type for entity_type in own_types or ()}
    own_keys: dict[str, list[str]] = {}
    for name in own:
        own_keys.setdefault(_name_key(name), []).append(name)
    selected: dict[str, str] = {}  # type of the model -> the matching name that was passed without a description
    types: dict[str, EntityType] = {}
    parents: dict[str, str | None] = {}  # only the parents in the call
    for label, fields in [(label, {}) for label in own] if entity_types is None else _items(entity_types):
        is_name = isinstance(label, str)
        if is_name and label in types:
            raise ValueError(f"the entity type {label!r} appears twice; names must be unique.")
        own_label = _own_label(label, own, own_keys) if is_name else None
        description = fields.get("description")
        if description is None:
            description = label if own_label is None else own[own_label]["description"]
            if own_label is not None and selected.setdefault(own_label, label) != label:
                raise ValueError(
                    f"the entity types {selected[own_label]!r} and {label!r} are both the model's entity type "
                    f"{own_label!r}: leave out one of them, or pass descriptions."
                )
        elif own_label is not None and description != own[own_label]["description"]:
            own_label = None
        if not all(isinstance(text, str) and text.strip() for text in (label, description)):
            raise ValueError(
                "the name and the description of an entity type must be texts and must not be blank, got "
                f"{label!r:.80}: {description!r:.80}."
            )
        if "parent" in fields:
            parents[label] = fields["parent"]
        types[label] = EntityType(label, description, own_label=own_label)
    if not types:
        raise ValueError(
            "there are no entity types: pass entity_types=['Disease', ...] or entity_types={'Disease': 'The name of "
            "a disease.'}, or use a model whose config has entity_types."
        )
    return _with_parents(types, parents, own)


def _items(entity_types: EntityTypes) -> Iterable[tuple[Any, Mapping[str, Any]]]:
    """Yield the name and the other fields of each type."""
    if isinstance(entity_types, str):
        entity_types = [entity_types]
    if isinstance(entity_types, Mapping):
        for name, value in entity_types.items():
            yield name, _fields(name, value if isinstance(value, Mapping) else {"description": value})
    elif (
        hasattr(entity_types, "__iter__")
        and not isinstance(entity_types, (bytes, bytearray, type))
        and getattr(entity_types, "ndim", 1) == 1  # a table is rejected, because its items are names of columns
    ):
        for item in entity_types:
            if not isinstance(item, Mapping):
                yield item, {}
            elif "name" not in item:
                raise ValueError(f"an entity type needs a 'name', got {dict(item)!r:.80}.")
            else:
                yield item["name"], _fields(item["name"], item)
    else:
        raise TypeError(f"entity_types must be names, or a dictionary name -> description, got {entity_types!r:.80}.")


def _fields(name: Any, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = [key for key in fields if key not in _KEYS]
    if unknown:
        raise ValueError(f"the entity type {name!r} has unknown keys {unknown}; known are 'description' and 'parent'.")
    return fields


def _own_label(label: str, own: Mapping[str, Any], own_keys: Mapping[str, list[str]]) -> str | None:
    """Return the name of the model's type that matches a label. Return None if no type or several types match.

    Args:
        label: a label of the call.
        own: the types of the model by name.
        own_keys: `_name_key` of a name -> names of the model's types with this key.
    """
    if label in own:
        return label
    matches = own_keys.get(_name_key(label), [])
    return matches[0] if len(matches) == 1 else None


def _name_key(name: str) -> str:
    """Return a name without differences of case, white space, Unicode forms and invisible characters.

    >>> _name_key(" Cell  LINE") == _name_key("cell line")
    True
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(char for char in folded if unicodedata.category(char) != "Cf").split())


def _with_parents(
    types: Mapping[str, EntityType], given: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]
) -> list[EntityType]:
    """Set the parent of each type: the parent in the call, or else the nearest ancestor that is a type of the call.

    The ancestors are known only for types of the model (with `own_label`). Other types without a parent in the call
    have no parent.
    """
    labels = {entity_type.own_label: label for label, entity_type in types.items() if entity_type.own_label}
    own_parents = {name: entity_type.get("parent") for name, entity_type in own.items()}
    parents: dict[str, str | None] = {}
    for label, entity_type in types.items():
        if label in given:
            parents[label] = given[label]
        else:
            line = ancestors(entity_type.own_label, own_parents) if entity_type.own_label else []
            parents[label] = next((labels[name] for name in line if name in labels), None)
    for label in types:
        ancestors(label, parents)  # raises if a parent is not a type of the call, or a type is its own ancestor
    return [entity_type._replace(parent=parents[label]) for label, entity_type in types.items()]


class EncodedTypes(NamedTuple):
    """Encoded descriptions of T types.

    Args:
        vectors: [T, 3, D], float32: three vectors of size D for each type, see `BinderModel.encode_types`.
        breadths: [T], float32, see `breadth_binder`. None if the model does not use breadth.
    """

    vectors: Tensor
    breadths: Tensor | None = None


@torch.no_grad()
def encode_descriptions(model: Any, tokenizer: Any, descriptions: Sequence[str]) -> EncodedTypes:
    """Encode descriptions in batches. This is four times as fast as one by one.

    All descriptions in a batch have the same number of tokens. So there is no padding, and the vectors of a type do not
    depend on the other types, except for rounding errors (up to 3e-7).

    Args:
        model: a `BinderModel`.
        tokenizer: tokenizer of the model. If `model.type_tokenizer` is not None, it is used instead.
        descriptions: one text per type.

    Raises:
        ValueError: a description is too long for the type encoder, or the types of the model are frozen.
    """
    windower = BinderWindower(tokenizer, type_tokenizer=model.type_tokenizer)
    inputs = windower.encode_types(descriptions, model.max_type_positions)
    lengths = inputs["type_attention_mask"].sum(1)
    encoder = model.type_encoder if model.type_encoder is not None else model.text_encoder
    # An 8-bit ONNX text encoder rounds relative to the largest number in the batch. So in a batch, the vectors of a
    # type would depend on the other types. Therefore this encoder encodes one type at a time.
    max_tokens = 1 if model.config.onnx and encoder is model.text_encoder else MAX_BATCH_TOKENS
    device = execution_device(encoder, model.start_head)
    vectors = torch.empty(len(lengths), 3, model.config.projection_size, device=device)
    breadths = torch.empty(len(lengths), device=device) if model.breadth is not None else None
    with tqdm(total=len(lengths), desc="Encoding types", unit="type", disable=len(lengths) < 1000) as progress:
        for length in lengths.unique().tolist():
            for rows in (lengths == length).nonzero()[:, 0].split(max(1, max_tokens // length)):
                batch = {name: tensor[rows, :length].to(device) for name, tensor in inputs.items()}
                states = model.encode_type_states(**batch)
                vectors[rows.to(device)] = model.project_types(states).float()
                if breadths is not None:
                    breadths[rows.to(device)] = model.breadth(states)
                progress.update(len(rows))
    return EncodedTypes(vectors, breadths)


class TypeCache:
    """A cache of encoded descriptions. It is emptied when a change of the model makes its vectors wrong.

    This can be a change of the weights, the modules, their settings, adapters or hooks, the tokenizer or the pooling.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Tensor, Tensor | None]] = {}  # description -> vectors [3, D] and breadth
        self._last: tuple[list[str], EncodedTypes] | None = None
        self._watch = WeightWatch()

    def _drop_outdated(self, model: Any, tokenizer: Any) -> None:
        tokenizer = model.type_tokenizer or tokenizer
        # The tokenizer is part of the settings, because another tokenizer gives other vectors.
        tokens = tuple(tokenizer(_PROBE_TEXT)["input_ids"])
        settings = (model.config.type_pooling, id(tokenizer), len(tokenizer), tokens)
        self._tokenizer = tokenizer  # keep a reference, so that no other tokenizer can get the same id
        if self._watch.changed(type_modules(model), settings):
            self._kept, self._last = {}, None

    def add(self, model: Any, tokenizer: Any, descriptions: Sequence[str], encoded: EncodedTypes) -> None:
        """Add descriptions that another process has encoded with the same weights and the same tokenizer."""
        self._drop_outdated(model, tokenizer)
        for row, text in enumerate(descriptions):
            breadth = None if encoded.breadths is None else encoded.breadths[row]
            self._kept[text] = encoded.vectors[row], breadth

    def get(
        self, model: Any, tokenizer: Any, descriptions: Sequence[str], encode: Callable[[list[str]], EncodedTypes]
    ) -> EncodedTypes:
        """Return encoded descriptions. Encode only the descriptions that are not in the cache.

        In training mode, nothing is cached, because dropout makes the vectors random. With frozen types, nothing is
        cached, because the model already contains the vectors.

        Args:
            model: a `BinderModel`.
            tokenizer: the tokenizer of the model.
            descriptions: one text for each of T types.
            encode: a function that encodes descriptions.
        """
        if model.config.frozen_types or any(module.training for module in type_modules(model)):
            self._kept, self._last = {}, None
            return encode(list(descriptions))
        self._drop_outdated(model, tokenizer)
        if self._last is not None and self._last[0] == descriptions:
            return self._last[1]
        found = {text: self._kept[text] for text in descriptions if text in self._kept}
        missing = [text for text in dict.fromkeys(descriptions) if text not in found]
        if missing:
            vectors, breadths = encode(missing)
            for row, text in enumerate(missing):
                # Copy each row, because a view would keep the vectors of all types of this call in memory.
                found[text] = vectors[row].clone(), None if breadths is None else breadths[row].clone()
            self._kept |= {text: found[text] for text in missing}
            while len(self._kept) > MAX_CACHED_TYPES:
                self._kept.pop(next(iter(self._kept)), None)
        rows, breadth = zip(*(found[text] for text in descriptions), strict=True)
        encoded = EncodedTypes(torch.stack(rows), None if breadth[0] is None else torch.stack(breadth))
        self._last = (list(descriptions), encoded)
        return encoded


def find_broader(
    types: Sequence[EntityType], breadths: Tensor | None, margin: float, tolerance: float | None
) -> Tensor | None:
    """Return which types of a call are broader than others, [T, T], or None; see `breadth_binder.broader_types`."""
    if breadths is None and not any(entity_type.parent for entity_type in types):
        return None
    return broader_types({entity_type.label: entity_type.parent for entity_type in types}, breadths, margin, tolerance)


def type_modules(model: Any) -> list[nn.Module]:
    """Return the modules of a `BinderModel` that encode entity types."""
    encoder = model.type_encoder if model.type_encoder is not None else model.text_encoder
    projections = [head.type_projection for head in (model.start_head, model.end_head, model.span_head)]
    return [encoder, *projections, *([] if model.breadth is None else [model.breadth])]


class WeightWatch:
    """Detects whether modules have changed since the last call. This is much faster than comparing all weights.

    These are compared:

    - the modules, their hooks and their plain attributes, such as the names of active adapters.
    - the address and the version of each tensor. Every in-place operation increments the version, except operations on
      `tensor.data` or on a numpy view.
    - the first row and the first column of each tensor, to detect most of these exceptions: changes of a bias, of a
      whole row or of a whole column. In a long row or column, only up to `MAX_PROBE_VALUES` values are compared.
    """

    def __init__(self) -> None:
        self._modules: list[nn.Module | None] = []
        self._children: list[dict[str, nn.Module | None]] = []
        self._attributes: list[dict[str, Any]] = []
        self._held: list[Any] = []  # values of the attributes; kept, because the id of a deleted object can be reused
        self._containers: list[Any] = []  # the lists and dictionaries among these values, which can change in place
        self._hooks: list[Mapping[int, Any]] = []
        self._tensors: list[Mapping[str, Tensor | None]] = []
        self._state: list[Any] = []
        self._views: list[list[Tensor]] = []  # some values of each tensor, grouped by device and dtype
        self._values: list[Tensor] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy starts anew: addresses and ids of the old process mean nothing in another one, and attributes of
        # modules, such as a session of onnxruntime, may not be picklable.
        return WeightWatch, ()

    def changed(self, modules: Sequence[nn.Module], settings: Any = None) -> bool:
        """Return whether the modules or the settings have changed since the last call."""
        # The dictionaries of the modules are read directly. This takes a third of the time of nn.Module.parameters(),
        # which also creates the names of the weights.
        replaced = [*modules, *_values(self._children)] != self._modules
        if replaced:
            submodules = [submodule for module in modules for submodule in module.modules()]
            self._children = [module._modules for module in submodules]
            self._attributes = [vars(module) for module in submodules]
            self._tensors = [module._parameters for module in submodules]
            self._tensors += [module._buffers for module in submodules]
            self._modules = [*modules, *_values(self._children)]
        held = _values(self._attributes)
        replaced = replaced or not _same_objects(held, self._held)
        if replaced:
            self._held = held
            own = [(name, value) for attributes in self._attributes for name, value in attributes.items()]
            self._hooks = [value for name, value in own if name in ("_forward_pre_hooks", "_forward_hooks")]
            self._containers = [
                value for name, value in own if name not in _MODULE_ATTRIBUTES and isinstance(value, (list, dict))
            ]
        tensors = [tensor for tensor in _values(self._tensors) if tensor is not None]
        hooks = [hook for hooks in self._hooks for hook in hooks]
        state = [settings, [_version(tensor) for tensor in tensors], hooks, list(map(_frozen, self._containers))]
        if replaced or state != self._state:
            self._state = state
            views: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
            for tensor in filter(_is_plain, tensors):
                views.setdefault((tensor.device, tensor.dtype), []).extend(_probes(tensor.detach()))
            self._views = [tensors for tensors in views.values() if tensors]
            self._values = [torch.cat(tensors) for tensors in self._views]
            return True
        before, self._values = self._values, [torch.cat(tensors) for tensors in self._views]
        return not all(map(torch.equal, before, self._values))


def _version(tensor: Tensor) -> tuple[int, int]:
    address = tensor.data_ptr() if type(tensor) in (Tensor, nn.Parameter) else id(tensor)
    return address, 0 if tensor.is_inference() else tensor._version


def _is_plain(tensor: Tensor) -> bool:
    """Return whether the values of a tensor can be compared: no quantised subclass, no 8-bit floats."""
    is_small_float = tensor.is_floating_point() and tensor.element_size() == 1
    return type(tensor) in (Tensor, nn.Parameter) and tensor.device.type != "meta" and not is_small_float


def _probes(tensor: Tensor) -> list[Tensor]:
    """Return the first row and the first column of a tensor, as vectors that share its memory."""
    if tensor.numel() == 0 or tensor.is_sparse:
        return []
    row = column = tensor.flatten() if tensor.ndim == 0 else tensor
    while column.ndim > 1:
        row, column = row.select(0, 0), column.select(1, 0)
    lines = [column] if tensor.ndim < 2 else [column, row]
    return [line[:: 1 + len(line) // MAX_PROBE_VALUES] for line in lines]


def _same_objects(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _frozen(value: Any) -> Any:
    """Copy a plain Python value, so that a later change in place is detected. Replace any other object by its id."""
    if isinstance(value, (int, float, str, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [_frozen(item) for item in value]
    if isinstance(value, dict):
        return [(name, _frozen(item)) for name, item in value.items()]
    return id(value)


def _values(dictionaries: Iterable[Mapping[str, Any]]) -> list[Any]:
    return [value for dictionary in dictionaries for value in dictionary.values()]
