"""Pairs of a broader and a finer entity type, counted in the mentions of corpora."""

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
    """Two types: nearly all mentions of the fine one are mentions of the broad one, but not the other way round."""

    broad: str
    fine: str


def count_pairs(
    corpora: Iterable[Corpus],
    min_broad_given_fine: float = MIN_BROAD_GIVEN_FINE,
    max_fine_given_broad: float = MAX_FINE_GIVEN_BROAD,
) -> list[Pair]:
    """Return the pairs of types of a corpus in which one type is broader, in alphabetical order.

    A span of a type counts for a pair only if its document was searched for both types.

    Args:
        corpora: their training documents are counted. Types of different corpora with the same name are one type.
        min_broad_given_fine: least share of the spans of the fine type that the broad type has as well.
        max_fine_given_broad: largest share of the spans of the broad type that the fine type has as well.
    """
    spans: Counter[tuple[str, str]] = Counter()  # (one, other): spans of one in documents searched for the other
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
    """Return the texts by which a user may ask for each type: its name, its descriptions, and both together.

    Args:
        types: of all corpora.
        labels: the types that are wanted.
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
    """Divide pairs into those without any of the given types, and those with one."""
    hidden = set(labels)
    seen = [pair for pair in pairs if pair.broad not in hidden and pair.fine not in hidden]
    return seen, [pair for pair in pairs if pair.broad in hidden or pair.fine in hidden]
