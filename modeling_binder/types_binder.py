"""Entity types of a call of the pipeline: names, descriptions and parents, and the vectors of the descriptions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from transformers.utils.logging import tqdm

from .adapters_binder import adapter_state, has_adapter_state
from .breadth_binder import broader_types
from .configuration_binder import ancestors
from .encoders_binder import execution_device
from .processing_binder import BinderWindower

MAX_CACHED_TYPES = 2**14  # maximum number of types in the cache, about 25 MB; the oldest are dropped first
MAX_BATCH_TOKENS = 2**11  # maximum number of tokens in a batch of descriptions
_PROBE_VALUES = 16  # number of values of each weight that are compared to detect a change

EntityTypes: TypeAlias = str | Sequence[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]
_KEYS = ("name", "description", "parent")


class EntityType(NamedTuple):
    """An entity type of a call.

    Args:
        label: name of the type in the results.
        description: the text that the type encoder encodes.
        parent: label of the nearest broader type of the call, or None.
        own_label: name of the model's own type with the same name (ignoring case) and the same description; None if
            the model has no such type.
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
            "description", "parent"}` dictionaries. `None` means all own types of the model. A name without a
            description is looked up among the own types, ignoring case ("gene" finds "Gene"), and gets the description
            found there. If there is no such type, the name is also the description. The parent of an own type is its
            nearest ancestor among the types of the call, unless the call gives a parent.
        own_types: the model's own types, as in `config.entity_types`.

    Raises:
        ValueError: there is no type, a name appears twice, a name or a description is blank or not a string, or a
            parent is not a type of the call or makes a type its own ancestor.
        TypeError: `entity_types` has another form.
    """
    own = {entity_type["name"]: entity_type for entity_type in own_types or ()}
    types: dict[str, EntityType] = {}
    parents: dict[str, str | None] = {}  # only the parents that the call gives
    for label, fields in [(label, {}) for label in own] if entity_types is None else _items(entity_types):
        if label in types:
            raise ValueError(f"the entity type {label!r} appears twice; names must be unique.")
        own_label = _own_label(label, own)
        description = fields.get("description")
        if description is None:
            description = label if own_label is None else own[own_label]["description"]
        elif own_label is not None and description != own[own_label]["description"]:
            own_label = None
        if not all(isinstance(text, str) and text.strip() for text in (label, description)):
            raise ValueError(
                f"the name and the description of an entity type must not be blank, got {label!r}: {description!r}."
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
    elif hasattr(entity_types, "__iter__"):
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


def _own_label(label: Any, own: Mapping[str, Any]) -> str | None:
    """Return the name of the own type that a label matches, ignoring case; None if none matches or several do."""
    if label in own or not isinstance(label, str):
        return label if label in own else None
    matches = [name for name in own if name.casefold() == label.casefold()]
    return matches[0] if len(matches) == 1 else None


def _with_parents(
    types: Mapping[str, EntityType], given: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]
) -> list[EntityType]:
    """Set the parent of each type: the parent that the call gives, or else the nearest ancestor that is in the call.

    The ancestors are those of the model's own type that the type stands for (`own_label`). A type without a given
    parent and without such an ancestor has no parent.
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
        vectors: [T, 3, D], float32; see `BinderModel.encode_types`.
        breadths: [T], float32, see `breadth_binder`; None if the model does not use breadth.
    """

    vectors: Tensor
    breadths: Tensor | None = None


@torch.no_grad()
def encode_descriptions(model: Any, tokenizer: Any, descriptions: Sequence[str]) -> EncodedTypes:
    """Encode descriptions of types in batches, which is four times as fast as encoding them one by one.

    All descriptions in a batch have the same number of tokens. So there is no padding, and the vectors of a type do not
    depend on the other types, except for rounding (up to 3e-7).

    Args:
        model: a `BinderModel`.
        tokenizer: tokenizer of the model; `model.type_tokenizer` is used instead if there is one.
        descriptions: one text per type.

    Raises:
        ValueError: a description is too long for the type encoder, or the types of the model are frozen.
    """
    windower = BinderWindower(tokenizer, type_tokenizer=model.type_tokenizer)
    inputs = windower.encode_types(descriptions, model.max_type_positions)
    lengths = inputs["type_attention_mask"].sum(1)
    encoder = model.type_encoder if model.type_encoder is not None else model.text_encoder
    # An 8-bit ONNX text encoder rounds relative to the largest number in the batch, so the vectors of a type would
    # depend on the other types. Therefore it encodes one type at a time.
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
    """Keeps encoded descriptions in memory as long as the weights they were computed with do not change."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Tensor, Tensor | None]] = {}  # description -> vectors [3, D] and breadth
        self._last: tuple[list[str], EncodedTypes] | None = None
        self._weights = WeightWatch()

    def add(self, model: Any, descriptions: Sequence[str], encoded: EncodedTypes) -> None:
        """Keep descriptions that another process has encoded with the same weights."""
        if self._weights.changed(type_modules(model)):
            self._kept, self._last = {}, None
        for row, text in enumerate(descriptions):
            breadth = None if encoded.breadths is None else encoded.breadths[row]
            self._kept[text] = encoded.vectors[row], breadth

    def get(self, model: Any, descriptions: Sequence[str], encode: Callable[[list[str]], EncodedTypes]) -> EncodedTypes:
        """Return encoded descriptions; encode only those that are not in the cache.

        In training mode nothing is cached, because dropout makes the vectors random.

        Args:
            model: a `BinderModel`.
            descriptions: one text for each of T types.
            encode: a function that encodes descriptions.
        """
        modules = type_modules(model)
        if any(module.training for module in modules):
            self._kept, self._last = {}, None
            return encode(list(descriptions))
        if self._weights.changed(modules):
            self._kept, self._last = {}, None
        if self._last is not None and self._last[0] == descriptions:
            return self._last[1]
        found = {text: self._kept[text] for text in descriptions if text in self._kept}
        missing = [text for text in dict.fromkeys(descriptions) if text not in found]
        if missing:
            vectors, breadths = encode(missing)
            for row, text in enumerate(missing):
                # A view would keep the vectors of the whole call in memory, so each row is copied.
                found[text] = vectors[row].clone(), None if breadths is None else breadths[row].clone()
            self._kept |= {text: found[text] for text in missing}
            while len(self._kept) > MAX_CACHED_TYPES:
                self._kept.pop(next(iter(self._kept)), None)
        rows, breadth = zip(*(found[text] for text in descriptions), strict=True)
        encoded = EncodedTypes(torch.stack(rows), None if breadth[0] is None else torch.stack(breadth))
        self._last = (list(descriptions), encoded)
        return encoded


def find_broader(types: Sequence[EntityType], breadths: Tensor | None, margin: float) -> Tensor | None:
    """Return which types of a call are broader than others, [T, T], or None; see `breadth_binder.broader_types`."""
    if breadths is None and not any(entity_type.parent for entity_type in types):
        return None
    return broader_types({entity_type.label: entity_type.parent for entity_type in types}, breadths, margin)


def type_modules(model: Any) -> list[nn.Module]:
    """Return the modules of a `BinderModel` that encoded types depend on."""
    encoder = model.type_encoder if model.type_encoder is not None else model.text_encoder
    projections = [head.type_projection for head in (model.start_head, model.end_head, model.span_head)]
    return [encoder, *projections, *([] if model.breadth is None else [model.breadth])]


class WeightWatch:
    """Detects that weights have changed since the last call, much faster than by comparing all values.

    It compares the modules, and the address and the version of each tensor. Every in-place operation increments the
    version, except operations on `tensor.data`. To detect those, it also compares some values of each tensor. It also
    compares which adapters are active, because `set_adapter` changes the results of a layer, but no tensor.
    """

    def __init__(self) -> None:
        self._modules: list[nn.Module | None] = []
        self._children: list[dict[str, nn.Module | None]] = []
        self._tensors: list[Mapping[str, Tensor | None]] = []
        self._versions: list[tuple[int, int]] = []
        self._adapted: list[nn.Module] = []
        self._adapters: list[Any] = []
        self._views: list[list[Tensor]] = []  # some values of each tensor, grouped by device
        self._values: list[Tensor] = []

    def changed(self, modules: Sequence[nn.Module]) -> bool:
        """Return whether the weights differ from those of the last call."""
        # Visiting the dictionaries of modules takes a third of the time of nn.Module.parameters(), which also builds
        # the names of the weights.
        replaced = [*modules, *_values(self._children)] != self._modules
        if replaced:
            submodules = [submodule for module in modules for submodule in module.modules()]
            self._children = [module._modules for module in submodules]
            self._tensors = [module._parameters for module in submodules]
            self._tensors += [module._buffers for module in submodules]
            self._modules = [*modules, *_values(self._children)]
            self._adapted = [module for module in submodules if has_adapter_state(module)]
        before_adapters, self._adapters = self._adapters, adapter_state(self._adapted)
        replaced = replaced or before_adapters != self._adapters
        tensors = [tensor for tensor in _values(self._tensors) if tensor is not None]
        versions = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
        if replaced or versions != self._versions:
            self._versions = versions
            views: dict[torch.device, list[Tensor]] = {}
            for tensor in tensors:
                if tensor.is_floating_point() and tensor.device.type != "meta":
                    views.setdefault(tensor.device, []).append(tensor.detach().flatten()[:_PROBE_VALUES])
            self._views = list(views.values())
            self._values = [torch.cat(tensors) for tensors in self._views]
            return True
        before, self._values = self._values, [torch.cat(tensors) for tensors in self._views]
        return not all(map(torch.equal, before, self._values))


def _values(dictionaries: Iterable[Mapping[str, Any]]) -> list[Any]:
    return [value for dictionary in dictionaries for value in dictionary.values()]
