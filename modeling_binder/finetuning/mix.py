"""A mix: several corpora with different entity types, as training data for one model.

Every corpus is annotated only for its own entity types. So a token window is compared only with these types. If its
document has `Document.types`, the window is compared only with the types in this list. `MixSettings.foreign_types` can
add types of other windows as negatives.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .corpus import Corpus
from .data import DataError, Document, EntityType, as_documents, check_labels, parse_entity_types

PARTIAL_NEGATIVE_RATE = 0.1  # default `negative_rate` if only some of the mentions are annotated


@dataclass(frozen=True)
class MixPart:
    """A corpus of a mix.

    Args:
        name: name of the corpus, unique in the mix.
        documents: the training documents.
        types: the entity types that the documents are annotated for.
        weight: windows of the corpus are sampled in proportion to weight * sqrt(number of its windows).
        share: fixed share of this corpus in the sampled windows, above 0 and at most 1. It replaces the weight.
        named: whether descriptions begin with the name of the type and a colon ("film: a movie"). If True, the model
            gets this name. If False, the model gets the label as the name.
        negative_rate: of the word starts and word ends outside mentions, the share that is used as negatives. Use
            values below 1 for corpora in which only some of the mentions are annotated.
        license, source: license and origin of the corpus, for the model card.

    Raises:
        DataError: the corpus has no documents or no types, or a value is out of range.
    """

    name: str
    documents: Sequence[Document]
    types: tuple[EntityType, ...]
    weight: float = 1.0
    share: float | None = None
    named: bool = False
    negative_rate: float = 1.0
    license: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if not self.documents:
            problems.append(f"{self.name}: this corpus of the mix has no training documents.")
        if not self.types:
            problems.append(f"{self.name}: this corpus of the mix has no entity types; describe them in types.json.")
        problems += rate_problems(self.name, self.weight, self.share, self.negative_rate)
        if problems:
            raise DataError.of(problems)

    @classmethod
    def of(
        cls,
        name: str,
        corpus: Corpus,
        *,
        types: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        parents: dict[str, str] | None = None,
        partial: bool = False,
        **options: Any,
    ) -> "MixPart":
        """Create a `MixPart` from the training documents of a corpus.

        Args:
            name, options: fields of `MixPart`.
            corpus: the corpus, see `load_corpus`.
            types: names of the types to train; None means all types of the corpus.
            exclude: names of types to remove together with their mentions.
            parents: name of a type -> name of its parent. It overrides the parents of these types in the corpus.
            partial: whether only some of the mentions are annotated; `negative_rate` then defaults to 0.1.

        Raises:
            DataError: a name is not a type of the corpus, or a value is out of range.
        """
        chosen = choose_types(name, corpus.types, types, exclude, parents or {})
        if partial:
            options.setdefault("negative_rate", PARTIAL_NEGATIVE_RATE)
        return cls(name, restrict(corpus.train, chosen), chosen, **options)


@dataclass(frozen=True)
class MixSettings:
    """How batches are sampled from a mix.

    Args:
        tokens_per_batch: maximum number of tokens in a batch of one process, padding included.
        max_types: maximum number of types that a window is compared with. All types with mentions in the window are
            included, even if there are more than `max_types`. The remaining types are sampled at random.
        foreign_types: number of additional types that serve as negatives for a window whose document has
            `Document.types`. They are sampled from the types of the other windows in the batch. A type is excluded if
            it may apply to mentions in the window. This is the case if its name shares a word with the name of a type
            of the window. It is also the case if the two types have mentions on the same span anywhere in the mix.
        name, named_description, description: how often the text of a type is its name ("film"), its name and
            description ("film: a movie") or its description ("a movie"). Only the ratios of the three numbers matter.
        augment: shares of the texts that are changed at random before tokenisation. The keys are "lower" (lower case),
            "upper" (capitals) and "breaks" (some spaces become line breaks).
        epoch_of: name of the corpus that determines the length of an epoch. An epoch then contains each window of this
            corpus once, and windows of the other corpora in proportion to their shares. `None` means that an epoch has
            as many windows as the whole mix.

    Raises:
        ValueError: a value is out of range.
    """

    tokens_per_batch: int = 4096
    max_types: int = 24
    foreign_types: int = 4
    name: float = 0.5
    named_description: float = 0.25
    description: float = 0.25
    augment: dict[str, float] = field(default_factory=dict)
    epoch_of: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("tokens_per_batch", 1), ("max_types", 1), ("foreign_types", 0)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {getattr(self, name)!r}.")
        shares = (self.name, self.named_description, self.description)
        if not all(_is_number(share) and share >= 0 for share in shares) or not sum(shares) > 0:
            raise ValueError(
                "name, named_description and description must be at least 0, and at least one of them above 0, "
                f"got {shares}."
            )
        unknown = set(self.augment) - {"lower", "upper", "breaks"}
        if unknown:
            raise ValueError(f"augment accepts lower, upper and breaks, got {sorted(unknown)[0]!r}.")
        rates = list(self.augment.values())
        if not all(_is_number(rate) and rate >= 0 for rate in rates) or sum(rates) > 1:
            raise ValueError(f"the shares of augment must be at least 0 and sum to at most 1, got {self.augment}.")


@dataclass(frozen=True)
class Mix:
    """Corpora to train one model on, for `BinderTrainer(train_dataset=Mix(...))`.

    Args:
        parts: the corpora.
        settings: how batches are sampled.

    Raises:
        DataError: the mix has no corpus, two corpora have the same name, the sum of the fixed shares is invalid, or
            `settings.epoch_of` is not the name of a corpus of the mix.

    Example:
        >>> from modeling_binder.finetuning import Mix, MixPart, load_corpus
        >>> mix = Mix([MixPart.of("news", load_corpus("news")), MixPart.of("medicine", load_corpus("medicine"))])
        ... # doctest: +SKIP
    """

    parts: Sequence[MixPart]
    settings: MixSettings = field(default_factory=MixSettings)

    def __post_init__(self) -> None:
        if not self.parts:
            raise DataError("the mix has no corpus; pass at least one.")
        names = [part.name for part in self.parts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"the mix has two corpora named {twice!r}; names must differ.")
        check_shares([part.share for part in self.parts])
        if self.settings.epoch_of not in (None, *names):
            raise DataError(
                f"epoch_of is {self.settings.epoch_of!r}, but the corpora of the mix are {', '.join(names)}."
            )

    @property
    def entity_types(self) -> dict[str, str]:
        """The types of all corpora: name -> description. If corpora share a type, the first description is used."""
        types: dict[str, str] = {}
        for part in self.parts:
            for entity_type in part.types:
                types.setdefault(entity_type.name, entity_type.description)
        return types


@dataclass(frozen=True)
class TypedDocuments:
    """Documents for evaluation with their own entity types, which replace the types of the model.

    Args:
        documents: documents with gold mentions.
        types: the types to predict; the model receives the first phrasing of each type.
    """

    documents: Sequence[Document]
    types: tuple[EntityType, ...]


def rate_problems(name: str, weight: Any, share: Any, negative_rate: Any) -> list[str]:
    """Check the weight, the share and the negative rate of a corpus, and return an error message for each bad value."""
    problems = []
    if not _is_number(weight) or not weight > 0:
        problems.append(
            f"{name}: weight must be a number above 0, got {weight!r}. To leave the corpus out, remove it from the mix."
        )
    if share is not None and not (_is_number(share) and 0 < share <= 1):
        problems.append(f"{name}: share must be above 0 and at most 1, got {share!r}.")
    if not _is_number(negative_rate) or not 0 <= negative_rate <= 1:
        problems.append(f"{name}: negative_rate must lie between 0 and 1, got {negative_rate!r}.")
    return problems


def check_shares(shares: Sequence[float | None]) -> None:
    """Raise DataError if the fixed shares are invalid.

    If every corpus has a fixed share, the shares must sum to 1. Otherwise, they must sum to less than 1, because the
    corpora without a fixed share (None) get the rest.
    """
    fixed = sum(share for share in shares if share is not None)
    free = sum(share is None for share in shares)
    if fixed > 1 + 1e-9 or (free and fixed >= 1):
        rest = f", which leaves nothing for the {free} corpora without a share" if free else ""
        raise DataError(
            f"the shares of the mix sum to {fixed:g}{rest}; they must sum to 1, or to less if a corpus has no share."
        )
    if not free and abs(fixed - 1) > 1e-9:
        raise DataError(
            f"the shares of the mix sum to {fixed:g}; they must sum to 1, or a corpus must have no share and get the "
            "rest."
        )


def choose_types(
    source: str,
    entity_types: Sequence[EntityType],
    types: Iterable[str] | None,
    exclude: Iterable[str],
    parents: dict[str, str],
) -> tuple[EntityType, ...]:
    """Return those types of a corpus that are used in a mix. `parents` overrides their parents in the corpus.

    Raises:
        DataError: a name is not a type of the corpus, no type is left, or a type is its own ancestor.
    """
    known = {entity_type.name: entity_type for entity_type in entity_types}
    excluded, wanted = set(exclude), list(known) if types is None else list(types)
    fields = (("types", wanted), ("exclude", excluded), ("parents", {*parents, *parents.values()}))
    problems = [
        f"{source}: {key} contains {name!r}, which is not a type of this corpus; its types are {', '.join(known)}."
        for key, names in fields
        for name in sorted(set(names) - set(known))
    ]
    if problems:
        raise DataError.of(problems)
    kept = [known[name] for name in known if name in set(wanted) - excluded]
    if not kept:
        raise DataError(
            f"{source}: 'types' and 'exclude' leave no type of this corpus; remove the corpus from the mix."
        )
    chosen = [replace(item, parent=parents.get(item.name, item.parent)) for item in kept]
    names = {entity_type.name for entity_type in chosen}
    # Remove parents that are not trained, because `parse_entity_types` accepts only parents among the types.
    chosen = [item if item.parent in names else replace(item, parent=None) for item in chosen]
    as_mapping = {item.name: {"description": item.phrasings, "parent": item.parent} for item in chosen}
    return tuple(parse_entity_types(as_mapping, source))


def restrict(documents: Iterable[Any], types: Sequence[EntityType]) -> list[Document]:
    """Return the documents with only the given types in their `entities` and `types`."""
    names = {entity_type.name for entity_type in types}
    restricted = []
    for document in as_documents(documents):
        entities = tuple(mention for mention in document.entities if mention.label in names)
        looked_for = None if document.types is None else tuple(name for name in document.types if name in names)
        if len(entities) != len(document.entities) or looked_for != document.types:
            document = replace(document, entities=entities, types=looked_for)
        restricted.append(document)
    check_labels(restricted, names, "the mix")
    return restricted


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
