"""Knowledge distillation: a model also learns from the scores of a larger model, its teacher.

The annotations of a corpus compare a window only with the few types that it was annotated for. A teacher can compare
it with any type. For each batch, types are drawn from all corpora. Each window is compared with some of them, and the
student learns the distribution of the teacher over the candidates of the window. Hinton et al., "Distilling the
Knowledge in a Neural Network", 2015.

Dimensions: B windows, L tokens, W widths, D projection size, P phrasings (names and descriptions of types), M drawn
phrasings, K phrasings that a window is compared with.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..heads_binder import vectors_of_windows, without_autocast
from ..losses_binder import candidate_mask
from ..modeling_binder import BinderModel
from ..processing_binder import BinderWindower
from ..scoring_binder import SpanParts
from .parts import encode_phrasings

PHRASINGS_PER_BLOCK = 64  # phrasings that are compared with a batch at once, to limit the memory
MASKED = -1e4  # the score of a position that is not a candidate; its probability is zero


class Teacher:
    """A larger model whose scores the trained model learns to predict.

    Args:
        model: the teacher; it is not changed.
        tokenizer: the tokenizer of its text encoder. It must split texts as the tokenizer of the trained model does;
            the ids of the tokens may differ (BERT and MPNet).
        weight: factor of the distillation loss; the loss of the annotations has the factor 1.
        drawn: M, number of phrasings that are drawn for a batch.
        compared: K, number of these phrasings that each window is compared with. One half is the same for all windows
            of the batch. The other half are those that the teacher is most certain to find in the window.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, model: BinderModel, tokenizer: Any, weight: float = 1.0, drawn: int = 512, compared: int = 16
    ) -> None:
        if weight <= 0:
            raise ValueError(
                f"the weight of the teacher must be above 0, got {weight}; train without a teacher instead."
            )
        if not 0 < compared <= drawn:
            raise ValueError(f"a window cannot be compared with {compared} of {drawn} phrasings.")
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.weight, self.drawn, self.compared = weight, drawn, compared
        self._states: Tensor | None = None
        self._ids: Tensor | None = None

    def prepare(self, texts: Sequence[str], tokenizer: Any, device: torch.device) -> None:
        """Encode the phrasings of all types, and translate token ids.

        Args:
            texts: the P phrasings.
            tokenizer: tokenizer of the trained model.
            device: device of the training.

        Raises:
            ValueError: the two tokenizers do not split texts alike.
        """
        self._ids = translate_ids(tokenizer, self.tokenizer).to(device)
        self.model.to(device)
        self._states = encode_phrasings(self.model, BinderWindower.for_model(self.model, self.tokenizer), texts)

    def loss(self, student: BinderModel, hidden: Tensor, states: Tensor, inputs: dict[str, Any], draw: int) -> Tensor:
        """Return the weighted distillation loss of a batch.

        It is the Kullback-Leibler divergence between the distributions of the teacher and the student over the
        candidates of a window and its threshold, averaged over the pairs of a window and a phrasing. The three heads
        have the weights of `student.config`.

        Args:
            student: the trained model.
            hidden: [B, L, H], the student's hidden states of the batch.
            states: [P, H], the student's pooled states of all phrasings.
            inputs: the batch, with `input_ids`, `attention_mask`, `word_start_mask` and `word_end_mask`.
            draw: seed of the draw of the phrasings.
        """
        assert self._states is not None and self._ids is not None  # `prepare` has set them
        generator = torch.Generator().manual_seed(draw)
        some = torch.randperm(len(states), generator=generator)[: self.drawn].to(hidden.device)
        masks = inputs["word_start_mask"].bool(), inputs["word_end_mask"].bool()
        with torch.no_grad():
            seen = self.model.encode_text(self._ids[inputs["input_ids"]], inputs["attention_mask"])
            parts, vectors = self.model.span_parts(seen), self.model.project_types(self._states[some])
            chosen = self._choose(parts, vectors, masks)
            targets = distributions(self.model, seen, parts, vectors_of_windows(vectors, chosen), masks)
        vectors = vectors_of_windows(student.project_types(states[some]), chosen)
        learned = distributions(student, hidden, student.span_parts(hidden), vectors, masks)
        config = student.config
        weights = (config.start_loss_weight, config.end_loss_weight, config.span_loss_weight)
        total = hidden.new_zeros((), dtype=torch.float32)
        for weight, target, own in zip(weights, targets, learned, strict=True):
            total = total + weight * nn.functional.kl_div(own, target, reduction="sum", log_target=True)
        return self.weight * total / chosen.numel()

    def _choose(self, parts: SpanParts, vectors: Tensor, masks: tuple[Tensor, Tensor]) -> Tensor:
        """Choose the phrasings that each window is compared with; returns [B, K], indices of the drawn phrasings."""
        number = min(self.compared, len(vectors))
        candidates = candidate_mask(*masks, parts.width)[:, None]
        best = []
        for block in vectors[:, 2].split(PHRASINGS_PER_BLOCK):
            with without_autocast(vectors.device):
                cosine = parts.cosine(block.float())
            threshold = cosine[:, :, 0, 0]
            best.append(cosine.masked_fill(~candidates, -2).flatten(2).amax(-1) - threshold)
        margins = torch.cat(best, 1)  # [B, M]
        margins[:, : number - number // 2] = float("inf")  # phrasings that all windows are compared with
        return margins.topk(number, dim=1).indices


def distributions(
    model: BinderModel, hidden: Tensor, parts: SpanParts, vectors: Tensor, masks: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probabilities of the candidates of each head, from the softmax of their scores.

    Args:
        hidden: [B, L, H]. parts: from `model.span_parts(hidden)`. vectors: [B, K, 3, D].
        masks: word starts and word ends, [B, L] each.

    Returns:
        Starts and ends, [B, K, L], and spans, [B, K, L * W]. Entry 0 is the threshold.
    """
    scores = model.score(hidden, vectors, parts)
    candidates = (*masks, candidate_mask(*masks, parts.width))
    found = []
    for head, allowed in zip(scores, candidates, strict=True):
        flat = allowed.flatten(1).clone()
        flat[:, 0] = True  # the threshold
        found.append(head.flatten(2).masked_fill(~flat[:, None], MASKED).log_softmax(-1))
    return found[0], found[1], found[2]


def translate_ids(student: Any, teacher: Any) -> Tensor:
    """Return the teacher's token id for each token id of the student, [size of the student's vocabulary].

    Special tokens are translated by their role ([CLS] and <s>).

    Raises:
        ValueError: the teacher's vocabulary lacks tokens of the student.
    """
    roles = {}
    for role in ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token"):
        if getattr(student, role) is not None and getattr(teacher, role) is not None:
            roles[getattr(student, role)] = getattr(teacher, role)
    known = teacher.get_vocab()
    ids = torch.zeros(len(student), dtype=torch.long)
    missing = []
    for token, index in student.get_vocab().items():
        name = roles.get(token, token)
        if name not in known:
            missing.append(token)
        else:
            ids[index] = known[name]
    if missing:
        raise ValueError(
            f"the teacher's tokenizer lacks {len(missing):,} tokens of the trained model, for example {missing[0]!r}: "
            "choose a teacher whose tokenizer splits texts in the same way."
        )
    return ids
