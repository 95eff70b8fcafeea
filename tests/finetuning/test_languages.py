"""Fine-tuning on texts in several scripts, with a multilingual SentencePiece tokenizer.

This tokenizer has the special token `<s>` and no [CLS].
"""

import pytest
from transformers import TrainingArguments

from modeling_binder import BinderNerPipeline
from modeling_binder.finetuning import BinderTrainer, Document, Mention
from tests.tiny import build_multilingual_tokenizer, keys, small_model, tiny_encoder_config

# Each item contains a text, the persons in the text and the places in the text.
# The scripts differ in ways that can lead to wrong offsets: Devanagari has vowel signs, Arabic has marks and attached
# particles, Greek has accents, and Chinese has no spaces.
SENTENCES = [
    ("Η Μαρία Παπαδοπούλου γεννήθηκε στην Αθήνα.", ["Μαρία Παπαδοπούλου"], ["Αθήνα"]),
    ("Ο Γιώργος Ιωάννου ζει στη Θεσσαλονίκη, όχι στην Πάτρα.", ["Γιώργος Ιωάννου"], ["Θεσσαλονίκη", "Πάτρα"]),
    ("وُلدت ليلى حداد في القاهرة.", ["ليلى حداد"], ["القاهرة"]),
    ("سافر عمر الخطيب من بغداد إلى دمشق.", ["عمر الخطيب"], ["بغداد", "دمشق"]),
    ("अनीता शर्मा का जन्म दिल्ली में हुआ।", ["अनीता शर्मा"], ["दिल्ली"]),
    ("रवि कुमार मुंबई से जयपुर गए।", ["रवि कुमार"], ["मुंबई", "जयपुर"]),
    ("王小明出生在北京。", ["王小明"], ["北京"]),
    ("李娜从上海到广州去了。", ["李娜"], ["上海", "广州"]),
]
TYPES = {"Person": "όνομα شخص व्यक्ति 人名", "Place": "πόλη مدينة शहर 城市"}


def documents():
    for index, (text, *mentions) in enumerate(SENTENCES):
        entities = [
            Mention(text.index(word), text.index(word) + len(word), label)
            for label, words in zip(TYPES, mentions, strict=True)
            for word in words
        ]
        yield Document(str(index), text, tuple(sorted(entities, key=lambda mention: mention.start)))


@pytest.fixture(scope="module")
def tokenizer():
    return build_multilingual_tokenizer([*(text for text, *_ in SENTENCES), *TYPES.values()])


def test_the_tokenizer_has_no_cls_token_and_knows_all_characters(tokenizer):
    assert tokenizer.is_fast and tokenizer.bos_token == "<s>" and "[CLS]" not in tokenizer.get_vocab()
    ids = tokenizer(SENTENCES[0][0])["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "<s>" and tokenizer.unk_token_id not in ids


def test_a_model_learns_mentions_in_greek_arabic_hindi_and_chinese(tmp_path, tokenizer):
    gold = list(documents())
    encoder = tiny_encoder_config(
        vocab_size=len(tokenizer), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).to_dict()
    entity_types = [{"name": name, "description": text} for name, text in TYPES.items()]
    trainer = BinderTrainer(
        small_model(text_config=encoder, entity_types=entity_types, max_span_width=24),
        TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            max_steps=60,
            learning_rate=5e-3,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
            seed=1,
        ),
        train_dataset=gold,
        processing_class=tokenizer,
    )
    trainer.train()
    pipe = BinderNerPipeline(model=trainer.model.eval(), tokenizer=tokenizer, device="cpu")
    for document, found in zip(gold, pipe([document.text for document in gold]), strict=True):
        assert all(document.text[e["start"] : e["end"]] == e["word"] for e in found)
        expected = [(mention.label, mention.start, mention.end) for mention in document.entities]
        assert keys(found) == expected
