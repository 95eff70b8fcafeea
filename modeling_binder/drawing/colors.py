"""The colours of entity types."""

from collections.abc import Sequence

# Pairs: the colour of a bar, and the colour of the label on this bar. The bars have the colours of Okabe and Ito, which
# people with colour blindness can distinguish.
PALETTE = (
    ("#e69f00", "#000"),
    ("#56b4e9", "#000"),
    ("#009e73", "#000"),
    ("#cc79a7", "#000"),
    ("#d55e00", "#000"),
    ("#0072b2", "#fff"),
    ("#f0e442", "#000"),
    ("#999999", "#000"),
)


def colors_of(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the colours of the bar and of its label for each entity type. The colours repeat after eight types."""
    return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(labels)}
