"""Find pairs of a broad and a fine entity type in corpora. Count the spans with both types."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modeling_binder.finetuning import Corpus, EntityType
from modeling_binder.finetuning.data import with_ancestors
from training.experiments.zero_shot import split_phrasing

MIN_BROAD_GIVEN_FINE = 0.5
MAX_FINE_GIVEN_BROAD = 0.3


@dataclass(frozen=True, order=True)
class Pair:
    """A broad and a fine type, such as "person" and "politician". `count_pairs` defines which types are a pair."""

    broad: str
    fine: str


def count_pairs(
    corpora: Iterable[Corpus],
    min_broad_given_fine: float = MIN_BROAD_GIVEN_FINE,
    max_fine_given_broad: float = MAX_FINE_GIVEN_BROAD,
) -> list[Pair]:
    """Return all pairs of a broad and a fine type, in alphabetical order.

    A span counts for a pair only if its document was annotated for both types.

    Args:
        corpora: corpora whose training documents are used. Types with the same name in several corpora are the same
            type.
        min_broad_given_fine: minimum share of the spans of the fine type that also have the broad type.
        max_fine_given_broad: maximum share of the spans of the broad type that also have the fine type.
    """
    # (label, other) -> number of spans of the type `label` in documents that were also annotated for the type `other`
    spans: Counter[tuple[str, str]] = Counter()
    shared: Counter[tuple[str, str]] = Counter()
    for corpus in corpora:
        for document in with_ancestors(corpus.train, corpus.types):
            labels: dict[tuple[int, int], set[str]] = defaultdict(set)
            for mention in document.entities:
                labels[mention.start, mention.end].add(mention.label)
            counts = Counter(label for found in labels.values() for label in found)
            looked_for = corpus.entity_types if document.types is None else document.types
            for label, count in counts.items():
                for other in looked_for:
                    spans[label, other] += count
            for found in labels.values():
                shared.update((one, other) for one in found for other in found if one != other)
    return sorted(
        Pair(broad, fine)
        for (fine, broad), number in shared.items()
        if number >= min_broad_given_fine * spans[fine, broad] and number <= max_fine_given_broad * spans[broad, fine]
    )


def texts_of(types: Iterable[EntityType], labels: Iterable[str]) -> dict[str, list[str]]:
    """Return the texts that users may pass for each type: its name, its descriptions, and "name: description".

    Args:
        types: the types of all corpora.
        labels: the types to return.
    """
    wanted = set(labels)
    texts: dict[str, dict[str, None]] = {label: {} for label in sorted(wanted)}
    for entity_type in types:
        if entity_type.name in wanted:
            name = split_phrasing(entity_type.name, entity_type.phrasings[0])[0]
            descriptions = [split_phrasing(entity_type.name, text)[1] for text in entity_type.phrasings]
            both = [f"{name}: {text}" for text in descriptions]
            texts[entity_type.name].update(dict.fromkeys([name, *descriptions, *both]))
    return {label: list(found) for label, found in texts.items()}


def held_out(pairs: Sequence[Pair], labels: Iterable[str]) -> tuple[list[Pair], list[Pair]]:
    """Divide pairs into pairs without the given types, and pairs with at least one of the given types."""
    hidden = set(labels)
    seen = [pair for pair in pairs if pair.broad not in hidden and pair.fine not in hidden]
    return seen, [pair for pair in pairs if pair.broad in hidden or pair.fine in hidden]
