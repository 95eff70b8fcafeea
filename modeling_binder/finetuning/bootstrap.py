"""Paired bootstrap test: can chance explain the difference between the F1 scores of two models?

Both models have annotated the same N documents. The test samples N of these documents with replacement, and computes
the difference between the two F1 scores on the sample. It repeats this thousands of times. The test is "paired",
because both models are scored on the same sample. So a sample of difficult documents lowers both scores, and hardly
changes the difference.

The null hypothesis is that both models are equally good. Under this hypothesis, the mean of the differences is 0. But
the mean over the samples is d, the difference on all documents. So the test subtracts d from the difference of each
sample. The p-value is the share of samples whose difference deviates from d by at least |d|.

Sources:

- Paired samples and interval: Koehn, "Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004.
- P-value: Berg-Kirkpatrick, Burkett and Klein, "An Empirical Investigation of Statistical Significance in NLP", EMNLP
  2012. This module uses the two-sided version of their test.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .schemes import SCHEMES, Scheme, document_counts
from .scores import AnyDocument, aligned_mentions

_MAX_BLOCK = 2**22  # maximum number of document weights in memory
_TOLERANCE = 1e-12  # smaller differences are rounding errors


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """The result of `paired_bootstrap`.

    Args:
        scheme: the evaluation scheme, see `schemes.SchemeMetrics`.
        f1, other_f1: micro F1 of the two models on all documents.
        difference: `f1 - other_f1`.
        low, high: confidence interval of the difference (percentiles of the samples).
        confidence: confidence level of this interval, such as 0.95.
        p_value: probability that two equally good models differ by at least this difference, in either direction. It is
            at least 1 / (resamples + 1).
        better: share of the samples in which the first model has a higher F1 than the second model.
        documents, resamples, seed: number of documents and of samples, and the seed of the random numbers.
    """

    scheme: Scheme
    f1: float
    other_f1: float
    difference: float
    low: float
    high: float
    confidence: float
    p_value: float
    better: float
    documents: int
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary for JSON."""
        return asdict(self)

    def summary(self, name: str = "the first model", other: str = "the second model") -> str:
        """Return two lines for the terminal; F1 is in percent."""
        return (
            f"F1 ({self.scheme}): {100 * self.f1:.2f} for {name}, {100 * self.other_f1:.2f} for {other}: difference "
            f"{100 * self.difference:+.2f}, {100 * self.confidence:g}% interval {100 * self.low:+.2f} to "
            f"{100 * self.high:+.2f}, p = {self.p_value:.4f}\n"
            f"(paired bootstrap over {self.documents} documents, {self.resamples} samples, seed {self.seed})"
        )


def paired_bootstrap(
    gold: Sequence[AnyDocument],
    predicted: Sequence[AnyDocument],
    other: Sequence[AnyDocument],
    *,
    scheme: Scheme = "strict",
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BootstrapResult:
    """Test whether two models differ in micro F1 on the same documents.

    Args:
        gold, predicted, other: for each document, the gold mentions, the predictions of the first model, and the
            predictions of the second model. See `metrics.compute_span_metrics` for the formats. The documents must be
            independent of each other. If they are sentences of the same texts, the interval is too narrow.
        scheme: "strict", "boundary", "partial" or "type".
        resamples: number of samples.
        confidence: confidence level of the interval, between 0 and 1.
        seed: seed of the random numbers.

    Raises:
        ValueError: the numbers of documents differ or are 0, a mention is malformed, or an argument is out of range.
    """
    truths, guesses = aligned_mentions(gold, predicted)
    _, others = aligned_mentions(gold, other, "other")
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}; got {scheme!r}.")
    counts = [document_counts(truths, spans, scheme) for spans in (guesses, others)]
    return bootstrap_counts(*counts, scheme=scheme, resamples=resamples, confidence=confidence, seed=seed)


def bootstrap_counts(
    counts: NDArray[np.float64],
    other_counts: NDArray[np.float64],
    *,
    scheme: Scheme = "strict",
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BootstrapResult:
    """Test whether two models differ in micro F1, from the counts of `schemes.document_counts`.

    Args:
        counts, other_counts: [N, 3], the numbers of correct, predicted and gold mentions of each of N documents.
        scheme, resamples, confidence, seed: as in `paired_bootstrap`.

    Raises:
        ValueError: there are no documents, or an argument is out of range.
    """
    if not len(counts):
        raise ValueError("there are no documents; a bootstrap test needs at least one.")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}.")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}.")
    f1, other_f1 = (float(_f1(table.sum(0))) for table in (counts, other_counts))
    difference = f1 - other_f1
    samples = _sample_differences(counts, other_counts, resamples, seed)
    extreme = np.abs(samples - difference) >= abs(difference) - _TOLERANCE
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return BootstrapResult(
        scheme=scheme,
        f1=f1,
        other_f1=other_f1,
        difference=difference,
        low=float(low),
        high=float(high),
        confidence=confidence,
        p_value=(1 + int(extreme.sum())) / (1 + resamples),
        better=float((samples > _TOLERANCE).mean()),
        documents=len(counts),
        resamples=resamples,
        seed=seed,
    )


def _sample_differences(
    counts: NDArray[np.float64], other_counts: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return the difference between the F1 scores in each of R samples, [R].

    The counts of all samples are a matrix product, [R, N] @ [N, 3]. The first matrix says how often each sample
    contains each of the N documents. The second matrix has the counts of each document. To limit the memory, the
    product is computed for r samples at a time.
    """
    size = len(counts)
    random = np.random.default_rng(seed)
    block = max(1, _MAX_BLOCK // size)
    differences = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)  # [r, N]
        differences.append(_f1(weights @ counts) - _f1(weights @ other_counts))
    return np.concatenate(differences)


def _f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return micro F1 from sums of correct, predicted and gold mentions, [..., 3]. F1 is 0 if there are no mentions."""
    correct, mentions = sums[..., 0], sums[..., 1] + sums[..., 2]
    return np.divide(2 * correct, mentions, out=np.zeros_like(correct), where=mentions > 0)
