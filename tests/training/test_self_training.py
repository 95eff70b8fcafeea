"""Self-training: mentions that a model finds are added to the labels."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_binder.finetuning import DataError, Document, Mention, read_jsonl, write_jsonl
from training.finetune import main as finetune
from training.self_training import main, relabel, with_found

TEXT = "the il gene in cells of the p5 gene"


def found(start, end, label="Gene", score=0.9):
    return {"start": start, "end": end, "label": label, "score": score}


def test_certain_predictions_become_mentions_and_others_undecided():
    document = Document("1", TEXT, (Mention(0, 11, "Gene"),), undecided=((15, 20), (21, 23)))
    new = with_found(document, [found(15, 20, "Cell", 0.5), found(24, 35, score=0.49)], certain=0.5)
    assert new.entities == (Mention(0, 11, "Gene"), Mention(15, 20, "Cell"))
    assert new.undecided == ((21, 23), (24, 35))
    assert (new.id, new.text) == (document.id, document.text)


@pytest.mark.parametrize("nested", [True, False])
def test_predictions_inside_a_mention_are_added_only_for_nested_decoding(nested):
    document = Document("1", TEXT, (Mention(0, 11, "Gene"),))
    new = with_found(document, [found(4, 6), found(0, 11), found(7, 11, score=0.3)], nested=nested)
    assert new.entities == ((Mention(0, 11, "Gene"), Mention(4, 6, "Gene")) if nested else document.entities)
    assert new.undecided == (((7, 11),) if nested else ())


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 14), st.sampled_from("AB"), st.floats(0.2, 1))),
    st.booleans(),
)
def test_mentions_are_kept_and_are_never_undecided(rows, nested):
    document = Document("1", TEXT, (Mention(2, 9, "A"), Mention(12, 14, "B")), undecided=((12, 14), (20, 22)))
    new = with_found(document, [found(start, start + width, label, score) for start, width, label, score in rows],
                     nested=nested)  # fmt: skip
    assert set(document.entities) <= set(new.entities)
    spans = {(mention.start, mention.end) for mention in new.entities}
    assert not spans & set(new.undecided)
    if not nested:
        added = sorted(set(new.entities) - set(document.entities))
        assert not any(one.start < other.end and other.start < one.end for one in added for other in document.entities)


def test_a_model_finds_mentions_that_the_labels_miss(recipe, tmp_path, capsys):
    model = tmp_path / "model"
    finetune([str(recipe), "--output_dir", str(model), "--num_train_epochs", "10"])
    complete = read_jsonl(tmp_path / "corpus" / "train.jsonl")
    bare = [Document(document.id, document.text) for document in complete]
    write_jsonl(tmp_path / "bare.jsonl", bare)
    main([str(model), str(tmp_path / "bare.jsonl"), str(tmp_path / "new.jsonl")])
    total = sum(len(document.entities) for document in complete)
    assert f"{len(complete)} documents: +{total} mentions" in capsys.readouterr().out
    assert [document.entities for document in read_jsonl(tmp_path / "new.jsonl")] == [
        tuple(sorted(document.entities)) for document in complete
    ]
    none = relabel(model, bare, certain=0.9999, doubtful=0.0001)
    assert not any(document.entities for document in none) and any(document.undecided for document in none)


def test_bad_input_raises_an_error_and_writes_nothing(recipe, tmp_path):
    model, output = tmp_path / "model", tmp_path / "new.jsonl"
    finetune([str(recipe), "--output_dir", str(model), "--max_steps", "1"])
    train = tmp_path / "corpus" / "train.jsonl"
    with pytest.raises(SystemExit, match=r"expected 0 < doubtful <= certain < 1, got doubtful 0\.6 and certain 0\.5"):
        main([str(model), str(train), str(output), "--doubtful", "0.6"])
    with pytest.raises(SystemExit, match=r"cannot load the model .*config"):
        main([str(tmp_path / "corpus"), str(train), str(output)])
    with pytest.raises(SystemExit, match="the output is an input"):
        main([str(model), str(train), str(train)])
    (tmp_path / "other.jsonl").write_text(
        json.dumps({"id": "1", "text": TEXT, "entities": [{"start": 0, "end": 3, "label": "Word"}]}) + "\n"
    )
    with pytest.raises(SystemExit, match="Word"):
        main([str(model), str(tmp_path / "other.jsonl"), str(output)])
    with pytest.raises(DataError, match="Word"):
        relabel(model, read_jsonl(tmp_path / "other.jsonl"))
    assert not output.exists()
