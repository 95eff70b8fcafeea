"""The colours of entity types."""

from collections.abc import Sequence

# Each pair is the colour of a bar and the colour of its label. The colours of the bars are from Okabe and Ito, because
# people with colour blindness can distinguish these colours.
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
    """Return the colours of the bar and of its label for each entity type. After eight types, the colours repeat."""
    return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(labels)}
