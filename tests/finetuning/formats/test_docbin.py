"""Writing spaCy's DocBin files. The reader of DocBin files is tested in test_other_formats.py."""

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training import Corpus

from modeling_binder.finetuning import DataError, Document, Mention, read_documents, write_format


def written(tmp_path, documents, **options):
    """Write documents and return the documents that spaCy reads from the file."""
    write_format(documents, tmp_path / "a.spacy", "docbin", **options)
    return list(DocBin().from_disk(tmp_path / "a.spacy").get_docs(spacy.blank("xx").vocab))


def spans(group):
    return [(span.text, span.label_) for span in group]


def test_flat_mentions_are_written_as_entities_and_as_spans(tmp_path):
    text = "The  IL-2-mediated signal 🧬\nof Oslo"
    documents = [Document("a", text, (Mention(5, 9, "Gene"), Mention(31, 35, "Place"))), Document("b", "")]
    first, empty = written(tmp_path, documents)
    assert first.text == text and spans(first.ents) == spans(first.spans["sc"]) == [("IL-2", "Gene"), ("Oslo", "Place")]
    assert [token.text for token in first][:5] == ["The", " ", "IL-2", "-mediated", "signal"], (
        "the word is split at the end of the mention"
    )
    assert (len(empty), empty.text, empty.ents) == (0, "", ())
    assert [document.id for document in read_documents(tmp_path / "a.spacy")] == ["a", "b"]


def test_nested_mentions_are_written_only_as_spans(tmp_path):
    nested = Document("a", "IL-2 gene", (Mention(0, 9, "DNA"), Mention(0, 4, "Protein")), ((0, 4), (5, 9)))
    flat = Document("b", "Oslo", (Mention(0, 4, "Place"),))
    docs = written(tmp_path, [nested, flat], group="mine", language="en")
    assert [spans(doc.spans["mine"]) for doc in docs] == [
        [("IL-2 gene", "DNA"), ("IL-2", "Protein")],
        [("Oslo", "Place")],
    ]
    assert [doc.ents for doc in docs] == [(), ()], (
        "no document has entities if a document of the file has nested mentions"
    )
    assert [token.text for token in docs[0]] == ["IL-2", "gene"], "the tokens are the words of the document"


def test_scores_are_kept_and_blanks_at_the_edges_of_mentions_are_removed(tmp_path):
    entities = [{"start": 2, "end": 8, "label": "Place", "score": 0.75}]
    (doc,) = written(tmp_path, [{"text": "in Oslo ", "entities": entities}])
    assert spans(doc.spans["sc"]) == [("Oslo", "Place")] and doc.spans["sc"].attrs["scores"] == [0.75]


def test_spacy_can_train_on_the_file(tmp_path):
    """The tokens in the file differ from the tokens of the spaCy pipeline, and spaCy aligns the tokens."""
    written(tmp_path, [Document("a", "In New York.", (Mention(3, 11, "Place"),), ((0, 2), (3, 6), (7, 11)))])
    (example,) = Corpus(tmp_path / "a.spacy")(spacy.blank("en"))
    assert example.get_aligned_ner() == ["O", "B-Place", "L-Place", "O"]


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        ([], {"language": "zz"}, r"language='zz': .*zz"),
        ([Document("d", "a  b", (Mention(1, 3, "X"),))], {}, "document 'd': the mention .* contains only blanks"),
        ([], {"lang": "en"}, "the format docbin has no option 'lang'; its options are group, language"),
    ],
)
def test_invalid_mentions_and_options_raise_an_error(tmp_path, documents, options, message):
    with pytest.raises(DataError, match=message):
        write_format(documents, tmp_path / "a.spacy", "docbin", **options)
    assert not list(tmp_path.iterdir())
