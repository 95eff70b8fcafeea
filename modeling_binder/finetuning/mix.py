"""A mix of corpora, each with types of its own, as training data of one model.

A window is compared only with types of its own corpus, or with those that its document names. All other types count
neither as mentions nor as negatives.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .corpus import Corpus
from .data import DataError, Document, EntityType, as_documents, check_labels, parse_entity_types

PARTIAL_NEGATIVE_RATE = 0.1  # default `negative_rate` of a corpus in which only some mentions are marked


@dataclass(frozen=True)
class MixPart:
    """A corpus of a mix.

    Args:
        name: unique in the mix.
        documents: its training documents.
        types: its types.
        weight: the corpus is drawn in proportion to weight x sqrt(number of its windows).
        share: fixed share of all draws, between 0 and 1, in place of a weight.
        named: whether descriptions begin with the name of the type and a colon ("film: a movie"). Otherwise the label
            is the name.
        negative_rate: share of the word edges outside mentions that serve as negatives; below 1 for corpora in which
            only some mentions are marked.
        license, source: for the model card.

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
            problems.append(f"{self.name}: there are no training documents in this corpus of the mix.")
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
        """Make a part from the training documents of a corpus.

        Args:
            name, options: fields of `MixPart`.
            corpus: see `load_corpus`.
            types: names of the types to train; None for all.
            exclude: names of types to leave out, with their mentions.
            parents: label -> label of its parent, in addition to the parents in the corpus.
            partial: whether only some of the mentions are marked; `negative_rate` then defaults to 0.1.

        Raises:
            DataError: a name is not a type of the corpus, or a value is out of range.
        """
        chosen = choose_types(name, corpus.types, types, exclude, parents or {})
        if partial:
            options.setdefault("negative_rate", PARTIAL_NEGATIVE_RATE)
        return cls(name, restrict(corpus.train, chosen), chosen, **options)


@dataclass(frozen=True)
class MixSettings:
    """How batches are drawn from a mix.

    Args:
        tokens_per_batch: maximum number of tokens in a batch of one process, padding included.
        max_types: maximum number of types that a window is compared with. Types with mentions in the window are always
            among them, even if they are more; the others are drawn.
        foreign_types: number of further types for windows whose documents name their types, drawn from the types of
            other windows that share no word, and in no text of the mix a span, with them.
        name, named_description, description: shares of the phrasings "film", "film: a movie" and "a movie".
        augment: shares of the texts that are read in lower case ("lower"), in capitals ("upper") and with line breaks
            in place of some blanks ("breaks"); drawn when the texts are tokenised.
        epoch_of: name of a corpus. An epoch draws each of its windows once, and the other corpora by their shares.
            Without it, an epoch draws as many windows as the mix has.

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
            raise ValueError(f"the shares of phrasings must be at least 0 and not all be 0, got {shares}.")
        unknown = set(self.augment) - {"lower", "upper", "breaks"}
        if unknown:
            raise ValueError(f"augment knows lower, upper and breaks, got {sorted(unknown)[0]!r}.")
        rates = list(self.augment.values())
        if not all(_is_number(rate) and rate >= 0 for rate in rates) or sum(rates) > 1:
            raise ValueError(f"the shares of augment must be at least 0 and sum to at most 1, got {self.augment}.")


@dataclass(frozen=True)
class Mix:
    """Corpora to train one model on, for `BinderTrainer(train_dataset=Mix(...))`.

    Args:
        parts: the corpora.
        settings: how batches are drawn.

    Raises:
        DataError: there is no corpus, two have the same name, or the fixed shares leave nothing for the others.

    Example:
        >>> from modeling_binder.finetuning import Mix, MixPart, load_corpus
        >>> mix = Mix([MixPart.of("news", load_corpus("news")), MixPart.of("medicine", load_corpus("medicine"))])
        ... # doctest: +SKIP
    """

    parts: Sequence[MixPart]
    settings: MixSettings = field(default_factory=MixSettings)

    def __post_init__(self) -> None:
        if not self.parts:
            raise DataError("the mix has no corpus: name at least one.")
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
        """The types of all corpora, name -> description; the first description if a name occurs twice."""
        types: dict[str, str] = {}
        for part in self.parts:
            for entity_type in part.types:
                types.setdefault(entity_type.name, entity_type.description)
        return types


@dataclass(frozen=True)
class TypedDocuments:
    """Documents for evaluation with types of their own, in place of those of the model.

    Args:
        documents: documents with their mentions.
        types: the types to predict, described by their first phrasing.
    """

    documents: Sequence[Document]
    types: tuple[EntityType, ...]


def rate_problems(name: str, weight: Any, share: Any, negative_rate: Any) -> list[str]:
    """Return the errors in the rates of a corpus."""
    problems = []
    if not _is_number(weight) or not weight > 0:
        problems.append(f"{name}: weight must be above 0, got {weight!r}; remove a corpus that is unwanted.")
    if share is not None and not (_is_number(share) and 0 < share <= 1):
        problems.append(f"{name}: share must be above 0 and at most 1, got {share!r}.")
    if not _is_number(negative_rate) or not 0 <= negative_rate <= 1:
        problems.append(f"{name}: negative_rate must lie between 0 and 1, got {negative_rate!r}.")
    return problems


def check_shares(shares: Sequence[float | None]) -> None:
    """Raise DataError if fixed shares sum to more than 1, or leave nothing for other corpora."""
    fixed = sum(share for share in shares if share is not None)
    free = sum(share is None for share in shares)
    if fixed > 1 + 1e-9 or (free and fixed >= 1):
        rest = f", which leaves nothing for the {free} others" if free else ""
        raise DataError(f"the shares of the mix sum to {fixed:g}{rest}; they must sum to less.")
    if not free and abs(fixed - 1) > 1e-9:
        raise DataError(f"the shares of the mix sum to {fixed:g}; give at least one corpus no share, or make them 1.")


def choose_types(
    source: str,
    entity_types: Sequence[EntityType],
    types: Iterable[str] | None,
    exclude: Iterable[str],
    parents: dict[str, str],
) -> tuple[EntityType, ...]:
    """Return the types of a corpus that a mix uses, with the parents that the mix adds.

    Raises:
        DataError: a name is not a type of the corpus, no type is left, or a type is its own ancestor.
    """
    known = {entity_type.name: entity_type for entity_type in entity_types}
    excluded, wanted = set(exclude), list(known) if types is None else list(types)
    fields = (("types", wanted), ("exclude", excluded), ("parents", {*parents, *parents.values()}))
    problems = [
        f"{source}: {key} names {name!r}, which is not a type of this corpus; its types are {', '.join(known)}."
        for key, names in fields
        for name in sorted(set(names) - set(known))
    ]
    if problems:
        raise DataError.of(problems)
    kept = [known[name] for name in known if name in set(wanted) - excluded]
    if not kept:
        raise DataError(f"{source}: 'types' and 'exclude' leave no type of this corpus; remove it from the mix.")
    chosen = [replace(kind, parent=parents.get(kind.name, kind.parent)) for kind in kept]
    names = {entity_type.name for entity_type in chosen}
    # A parent that is left out has no effect.
    chosen = [kind if kind.parent in names else replace(kind, parent=None) for kind in chosen]
    as_mapping = {kind.name: {"description": kind.phrasings, "parent": kind.parent} for kind in chosen}
    return tuple(parse_entity_types(as_mapping, source))


def restrict(documents: Iterable[Any], types: Sequence[EntityType]) -> list[Document]:
    """Remove mentions of other types, and other types in `Document.types`, from documents."""
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
