"""The trainer: learns, evaluates as the pipeline predicts, and does not depend on how a step is split."""

import copy

import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from modeling_binder import BinderNerPipeline
from modeling_binder.finetuning import BinderTrainer, DataError, Document
from tests.tiny import build_model, corpus, small_model


def trainer(folder, tokenizer, model=None, train=None, dev=None, **arguments):
    options = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 5e-3,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": True,
        "logging_steps": 1,
    }
    return BinderTrainer(
        model or small_model(),
        TrainingArguments(**{**options, **arguments}),
        train_dataset=corpus() if train is None else train,
        eval_dataset=dev,
        processing_class=tokenizer,
    )


def test_it_learns_and_keeps_the_best_checkpoint(tmp_path, tokenizer):
    run = trainer(
        tmp_path,
        tokenizer,
        dev=corpus(1),
        num_train_epochs=12,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="f1",
    )
    run.train()
    metrics = run.evaluate()
    assert metrics["eval_f1"] == run.state.best_metric == 1.0
    assert {"eval_precision", "eval_recall", "eval_macro_f1", "eval_nested_f1", "eval_loss"} <= set(metrics)
    run.save_model()
    assert {"config.json", "model.safetensors", "tokenizer.json", "pipeline_binder.py"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_predictions_are_the_pipelines(tmp_path, tokenizer):
    for decoding in ("nested", "flat"):
        for inference in ("span", "joint"):
            model = build_model(decoding=decoding, inference=inference, max_length=32, stride=8)
            run = trainer(tmp_path, tokenizer, model=model)
            texts = ["the IL-2 gene promoter of cells in the cell. " * 4, "", "cells"]
            predictions = run.predict([Document(str(i), text) for i, text in enumerate(texts)]).predictions
            found = BinderNerPipeline(model=model, tokenizer=tokenizer, device="cpu")(texts)
            assert [[(e["start"], e["end"], e["label"]) for e in p] for p in predictions] != [[], [], []]
            for ours, theirs in zip(predictions, found, strict=True):
                assert sorted((e["start"], e["end"], e["label"]) for e in ours) == sorted(
                    (e["start"], e["end"], e["entity_group"]) for e in theirs
                )


def test_datasets_and_dictionaries_are_documents_too(tmp_path, tokenizer):
    rows = [document.to_dict() for document in corpus(1)]
    one = trainer(tmp_path, tokenizer, train=rows).train_dataset
    two = trainer(tmp_path, tokenizer, train=Dataset.from_list(rows)).train_dataset
    three = trainer(tmp_path, tokenizer, train=corpus(1)).train_dataset
    assert one.labels == two.labels == three.labels and one.documents == three.documents == two.documents


def weights_after(run):
    run.train()
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def assert_same(one, two, atol=1e-5):
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=atol, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_accumulating_gradients_equals_a_larger_batch(tmp_path, tokenizer):
    model = small_model()
    whole = weights_after(trainer(tmp_path / "a", tokenizer, copy.deepcopy(model), optim="sgd", max_steps=3))
    parts = weights_after(
        trainer(
            tmp_path / "b",
            tokenizer,
            copy.deepcopy(model),
            optim="sgd",
            max_steps=3,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=4,
        )
    )
    assert_same(whole, parts)


def test_losses_logged_do_not_depend_on_the_split(tmp_path, tokenizer):
    model = small_model()
    losses = []
    for size, steps in ((4, 1), (1, 4), (2, 2)):
        run = trainer(
            tmp_path,
            tokenizer,
            copy.deepcopy(model),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=3,
        )
        run.train()
        losses.append([entry["loss"] for entry in run.state.log_history if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3) and losses[2] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")  # the name before 5.21
@pytest.mark.parametrize("option", ["bf16", "gradient_checkpointing"])
def test_options_of_the_trainer_work(tmp_path, tokenizer, option):
    run = trainer(tmp_path, tokenizer, max_steps=2, **{option: True})
    run.train()
    assert run.state.global_step == 2
    assert all(torch.isfinite(tensor).all() for tensor in run.model.state_dict().values())


def test_several_evaluation_sets(tmp_path, tokenizer):
    run = trainer(tmp_path, tokenizer, dev={"one": corpus(1), "two": [Document("x", "cells")]})
    metrics = run.evaluate()
    assert {"eval_one_f1", "eval_two_f1"} <= set(metrics)


def test_what_is_missing_is_named(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="has no entity types to train"):
        trainer(tmp_path, tokenizer, model=small_model(entity_types=None))
    with pytest.raises(ValueError, match="pass the encoder's tokenizer"):
        trainer(tmp_path, None)
    with pytest.raises(DataError, match="row 0: 'text' must be a string"):
        trainer(tmp_path, tokenizer, train=[{"entities": []}])
