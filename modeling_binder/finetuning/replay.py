"""Make a mix for fine-tuning a checkpoint on a new corpus.

The mix also contains ("replays") texts of older corpora. So the checkpoint does not forget its other entity types.
"""

from collections.abc import Sequence
from dataclasses import replace

from .data import DataError
from .mix import Mix, MixPart, MixSettings

TOKENS_PER_BATCH = 1024  # about 25 sentences
# How often the text of a type is its name, its name and description, or its description. Users of the model pass
# descriptions of the fine-tuned types, but often only names of other types. So training with replay uses names too.
WITH_REPLAY = MixSettings(name=0.35, named_description=0.15, description=0.5)
WITHOUT_REPLAY = MixSettings(name=0.0, named_description=0.0, description=1.0)


def replay_mix(
    new: MixPart, old: Sequence[MixPart] = (), share: float = 0.3, tokens_per_batch: int = TOKENS_PER_BATCH
) -> Mix:
    """Return a mix for fine-tuning on a new corpus. An epoch contains each window of the new corpus once.

    Args:
        new: the corpus to fine-tune on.
        old: corpora whose types must not be forgotten, such as the training corpora of the checkpoint.
        share: share of the windows of an epoch that come from `old`, at least 0 and less than 1. The corpora in `old`
            divide this share in proportion to their weights.
        tokens_per_batch: maximum number of tokens in a batch of one process, padding included.

    Raises:
        DataError: the share is out of range, or it is above 0 and there are no old corpora.

    Example:
        >>> from modeling_binder.finetuning import BinderTrainer, MixPart, load_corpus, replay_mix
        >>> mix = replay_mix(
        ...     MixPart.of("mine", load_corpus("my_corpus")), [MixPart.of("open", load_corpus("open_types"))], share=0.3
        ... )  # doctest: +SKIP
        >>> BinderTrainer(model, args, train_dataset=mix, freeze=["type_encoder"])  # doctest: +SKIP
    """
    if not 0 <= share < 1:
        raise DataError(f"the share of repeated texts must be at least 0 and less than 1, got {share!r}.")
    if share == 0:
        settings = replace(WITHOUT_REPLAY, tokens_per_batch=tokens_per_batch, epoch_of=new.name)
        return Mix([replace(new, share=None)], settings)
    if not old:
        raise DataError(f"a share of {share:g} repeats texts of old corpora, so it needs at least one old corpus.")
    total = sum(part.weight for part in old)
    parts = [replace(part, share=share * part.weight / total) for part in old]
    settings = replace(WITH_REPLAY, tokens_per_batch=tokens_per_batch, epoch_of=new.name)
    return Mix([replace(new, share=1 - share), *parts], settings)
