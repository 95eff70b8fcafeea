"""`BinderTrainer`: training, evaluation, and checks of its arguments.

Predictions equal the predictions of the pipeline, and the batch size does not change the loss.
"""

import copy
import itertools
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import GradientState
from datasets import Dataset
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments
from transformers.trainer_utils import HPSearchBackend

from modeling_binder import BinderNerPipeline, BinderWindower
from modeling_binder.finetuning import BinderTrainer, DataError, Document, EntityType, Mention, WindowDataset
from modeling_binder.finetuning.predictions import Decoding
from tests.tiny import TYPES, build_model, corpus, small_model


def arguments(folder, **changes):
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
    return TrainingArguments(**{**options, **changes})


def trainer(folder, tokenizer, model=None, train=None, dev=None, **changes):
    """Return a trainer of the tiny model."""
    return BinderTrainer(
        model or small_model(),
        arguments(folder, **changes),
        train_dataset=corpus() if train is None else train,
        eval_dataset=dev,
        processing_class=tokenizer,
    )


def test_a_model_learns_and_the_best_checkpoint_is_loaded_at_the_end(tmp_path, tokenizer):
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


def test_predictions_equal_the_output_of_the_pipeline(tmp_path, tokenizer):
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


def test_datasets_and_dictionaries_are_accepted_as_documents(tmp_path, tokenizer):
    rows = [document.to_dict() for document in corpus(1)]
    one = trainer(tmp_path, tokenizer, train=rows).train_dataset
    two = trainer(tmp_path, tokenizer, train=Dataset.from_list(rows)).train_dataset
    three = trainer(tmp_path, tokenizer, train=corpus(1)).train_dataset
    assert one.labels == two.labels == three.labels and one.documents == three.documents == two.documents


def weights_after(run):
    """Train, and return a copy of the trained weights."""
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


def test_logged_losses_do_not_depend_on_the_size_of_batches(tmp_path, tokenizer):
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


@pytest.mark.filterwarnings(
    "ignore:`gradient_checkpointing` is deprecated:FutureWarning"
)  # raised since transformers 5.21
@pytest.mark.parametrize("option", ["bf16", "gradient_checkpointing"])
def test_training_works_with_an_option_of_trainer(tmp_path, tokenizer, option):
    run = trainer(tmp_path, tokenizer, max_steps=2, **{option: True})
    run.train()
    assert run.state.global_step == 2
    assert all(torch.isfinite(tensor).all() for tensor in run.model.state_dict().values())


def test_evaluation_returns_metrics_for_each_of_several_data_sets(tmp_path, tokenizer):
    run = trainer(tmp_path, tokenizer, dev={"one": corpus(1), "two": [Document("x", "cells")]})
    metrics = run.evaluate()
    assert {"eval_one_f1", "eval_two_f1"} <= set(metrics)


def test_early_stopping_uses_the_mean_over_the_evaluation_sets(tmp_path, tokenizer):
    run = BinderTrainer(
        small_model(),
        arguments(
            tmp_path,
            num_train_epochs=6,
            learning_rate=0.0,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="f1",
        ),
        train_dataset=corpus(1),
        eval_dataset={"one": corpus(1), "two": corpus(1)[:2]},
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    run.train()
    assert run.state.epoch == 3, "the metric never improves after the first epoch"


def test_empty_data_and_models_of_other_classes_raise_an_error(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="train_dataset has no documents"):
        trainer(tmp_path, tokenizer, train=[]).train()
    with pytest.raises(ValueError, match="eval_dataset is an empty dictionary"):
        trainer(tmp_path, tokenizer, dev={}).evaluate()
    with pytest.raises(TypeError, match=r"trains a BinderModel .*, got Linear"):
        trainer(tmp_path, tokenizer, model=torch.nn.Linear(2, 2))


def test_missing_arguments_raise_an_error(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="has no entity types to train"):
        trainer(tmp_path, tokenizer, model=small_model(entity_types=None))
    with pytest.raises(ValueError, match="pass the encoder's tokenizer"):
        trainer(tmp_path, None)
    with pytest.raises(DataError, match="row 0: 'text' must be a string"):
        trainer(tmp_path, tokenizer, train=[{"entities": []}])


def test_compute_metrics_receives_documents_and_predictions(tmp_path, tokenizer):
    def found_in_long_texts(documents, predictions):
        assert [document.id for document in documents] == [document.id for document in corpus(1)]
        return {"long": sum(len(p) for d, p in zip(documents, predictions, strict=True) if len(d.text) > 20)}

    run = BinderTrainer(
        build_model(),
        arguments(tmp_path),
        eval_dataset=corpus(1),
        processing_class=tokenizer,
        compute_metrics=found_in_long_texts,
    )
    predictions = run.predict(corpus(1)).predictions
    expected = sum(len(p) for d, p in zip(corpus(1), predictions, strict=True) if len(d.text) > 20)
    assert run.evaluate()["eval_long"] == expected > 0


def test_metrics_of_any_numeric_type_are_saved_and_averaged_over_evaluation_sets(tmp_path, tokenizer):
    values = {"numpy": np.float32(0.5), "tensor": torch.tensor(2), "texts": np.int64(1), "note": "a text"}
    run = BinderTrainer(
        small_model(),
        arguments(
            tmp_path,
            max_steps=1,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="best",
            metric_for_best_model="numpy",
            load_best_model_at_end=True,
        ),
        train_dataset=corpus(1),
        eval_dataset={"one": corpus(1), "two": corpus(1)[:2]},
        processing_class=tokenizer,
        compute_metrics=lambda documents, predictions: {**values, "texts": np.int64(len(documents))},
    )
    run.train()
    assert run.state.best_metric == 0.5
    metrics = run.evaluate()
    assert (metrics["eval_numpy"], metrics["eval_tensor"], metrics["eval_texts"]) == (0.5, 2, 3)
    assert "eval_note" not in metrics and metrics["eval_one_note"] == "a text"


@pytest.mark.parametrize("result", [None, 0.5, [("f1", 0.5)]])
def test_compute_metrics_must_return_a_dictionary(tmp_path, tokenizer, result):
    run = trainer(tmp_path, tokenizer, model=build_model())
    run.compute_metrics = lambda documents, predictions: result
    with pytest.raises(TypeError, match="compute_metrics must return a dictionary name -> number, got"):
        run.predict(corpus(1))


@pytest.mark.parametrize("name", ["data_collator", "compute_loss_func", "preprocess_logits_for_metrics"])
def test_arguments_of_trainer_that_would_have_no_effect_raise_an_error(tmp_path, tokenizer, name):
    with pytest.raises(TypeError, match=f"its own loss, batches and evaluation: leave out {name}"):
        BinderTrainer(small_model(), arguments(tmp_path), processing_class=tokenizer, **{name: print})
    with pytest.raises(ValueError, match="leave out label_smoothing_factor"):
        trainer(tmp_path, tokenizer, label_smoothing_factor=0.1)


def test_an_interrupted_training_leaves_the_model_in_evaluation_mode(tmp_path, tokenizer):
    class Interrupt(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            raise KeyboardInterrupt

    run = trainer(tmp_path, tokenizer)
    run.add_callback(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert not run.model.training


def test_the_number_of_predictions_in_a_window_is_limited(tmp_path, tokenizer, monkeypatch, caplog):
    """The spans with the largest margins are kept for each window, and a warning is logged."""
    documents = corpus(1)
    run = trainer(tmp_path, tokenizer, model=build_model())
    everything = run.predict(documents).predictions
    monkeypatch.setattr("modeling_binder.finetuning.predictions.MAX_SPANS_PER_WINDOW", 2)
    with caplog.at_level("WARNING"):
        capped = run.predict(documents).predictions
    assert "more than 2 predictions" in caplog.text
    assert any(len(entities) > 2 for entities in everything)
    for all_found, kept in zip(everything, capped, strict=True):
        best = sorted(all_found, key=lambda entity: -entity["score"])[:2]
        assert sorted(kept, key=str) == sorted(best, key=str)


def test_comparing_scores_in_blocks_does_not_change_predictions(tmp_path, tokenizer, monkeypatch):
    run = trainer(tmp_path, tokenizer, model=build_model())
    whole = run.predict(corpus(2)).predictions
    monkeypatch.setattr("modeling_binder.finetuning.predictions.MAX_BLOCK_SCORES", 1)
    assert run.predict(corpus(2)).predictions == whole


def test_hyperparameter_search_creates_a_new_model_for_each_trial(tmp_path, tokenizer, monkeypatch):
    """The test calls the trainer in the same way as the search of transformers, so Optuna need not be installed."""
    monkeypatch.setattr("transformers.integrations.hp_params", lambda trial: trial.params)
    made = []

    def make(trial):
        made.append(trial)
        return small_model()

    run = BinderTrainer(
        args=arguments(tmp_path, max_steps=2),
        train_dataset=corpus(),
        processing_class=tokenizer,
        model_init=make,
        freeze=["embeddings"],
    )
    run.hp_search_backend, run.hp_space = HPSearchBackend.OPTUNA, lambda trial: trial.params
    weights = []
    for number, rate in enumerate((1e-3, 1e-2, 1e-3)):
        run.train(trial=SimpleNamespace(number=number, params={"learning_rate": rate}))
        assert made[-1].number == number and run.state.trial_params == {"learning_rate": rate} == made[-1].params
        weights.append({name: value.clone() for name, value in run.model.state_dict().items()})
    assert_same(weights[0], weights[2])
    assert any(not value.allclose(weights[1][name]) for name, value in weights[0].items())
    assert not run.model.text_encoder.embeddings.word_embeddings.weight.requires_grad
    assert not run.model.training
    with pytest.raises(ValueError, match=r"pass a model, or a function.*model_init"):
        BinderTrainer(args=arguments(tmp_path), processing_class=tokenizer)


def test_the_old_attribute_processor_returns_the_windower_and_warns(tmp_path, tokenizer):
    run = trainer(tmp_path, tokenizer)
    with pytest.warns(FutureWarning, match=r"processor is now BinderTrainer\.windower"):
        assert run.processor is run.windower


def test_a_pipeline_on_the_trained_model_is_deterministic(tmp_path, tokenizer):
    model = build_model(projection_dropout=0.5)
    trainer(tmp_path, tokenizer, model=model, max_steps=1).train()
    assert not any(module.training for module in model.modules())
    pipeline = BinderNerPipeline(model=model, tokenizer=tokenizer, device="cpu")
    assert pipeline("the gene in cells") == pipeline("the gene in cells")


def test_parts_of_the_model_can_be_frozen_and_unknown_parts_raise_an_error(tmp_path, tokenizer):
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = BinderTrainer(
        model,
        arguments(tmp_path, max_steps=2),
        train_dataset=corpus(),
        processing_class=tokenizer,
        freeze=["type_encoder", "embeddings"],
    )
    run.train()
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert not any(name.startswith(("type_encoder.", "text_encoder.embeddings.")) for name in changed)
    assert any(name.startswith("text_encoder.encoder.") for name in changed)
    for argument in ("freeze", "learning_rates"):
        with pytest.raises(ValueError, match=rf"{argument} accepts the parts .*heads, got 'decoder'"):
            BinderTrainer(model, arguments(tmp_path), processing_class=tokenizer, **{argument: {"decoder": 1e-3}})
    for rates, message in (([1], r"must be a mapping .*got \[1\]"), ({"heads": "x"}, "the rate of 'heads' .*got 'x'")):
        with pytest.raises(ValueError, match=f"learning_rates.* {message}"):
            BinderTrainer(model, arguments(tmp_path), processing_class=tokenizer, learning_rates=rates)


def test_fsdp_and_deepspeed_raise_an_error(tmp_path, tokenizer):
    for option, name in (("fsdp", "FSDP"), ("deepspeed", "DeepSpeed")):
        args = arguments(tmp_path)
        setattr(args, option, ["full_shard"])
        with pytest.raises(ValueError, match=rf"does not support {name}.*torchrun"):
            BinderTrainer(small_model(), args, train_dataset=corpus(), processing_class=tokenizer)


def test_a_trainer_can_be_pickled_for_a_search_with_ray_tune(tmp_path, tokenizer):
    """Ray Tune pickles the trainer without its model, and each trial trains a copy."""
    cloudpickle = pytest.importorskip("cloudpickle")
    # accelerate keeps weak references to the data loaders of trainings that an error ended. They cannot be pickled.
    GradientState._reset_state()
    options = {"processing_class": tokenizer, "model_init": lambda: small_model(), "freeze": ["type_encoder"]}
    args = arguments(tmp_path, max_steps=1)
    run = BinderTrainer(args=args, train_dataset=corpus(1), eval_dataset=corpus(1), **options)
    run.evaluate()
    run.model = None
    trial = cloudpickle.loads(cloudpickle.dumps(run))
    trial.train()
    assert trial.state.global_step == 1 and "eval_f1" in trial.evaluate()


@pytest.mark.parametrize("variable", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_sharding_that_accelerate_launch_enables_raises_an_error(tmp_path, tokenizer, monkeypatch, variable):
    """`accelerate launch --use_fsdp` leaves the arguments unchanged, and sets a variable instead."""
    args = arguments(tmp_path)
    monkeypatch.setenv(f"ACCELERATE_USE_{variable}", "true")
    with pytest.raises(ValueError, match=rf"does not support .*ACCELERATE_USE_{variable} is set.*torchrun"):
        BinderTrainer(small_model(), args, train_dataset=corpus(), processing_class=tokenizer)


def test_training_stops_within_the_time_limit_and_is_evaluated(tmp_path, tokenizer, monkeypatch):
    """In the test, the clock of the trainer shows one second more after each step, however long the steps take."""
    run = BinderTrainer(
        small_model(),
        arguments(tmp_path, max_steps=1000, eval_strategy="steps", eval_steps=1000),
        train_dataset=corpus(),
        eval_dataset=corpus(1),
        processing_class=tokenizer,
        max_minutes=10 / 60,
    )
    update, seconds = run.clock.update, itertools.count(1)

    def tick(device):
        run.clock.began = time.monotonic() - next(seconds)
        update(device)

    monkeypatch.setattr(run.clock, "update", tick)
    run.train()
    assert 5 <= run.state.global_step <= 10
    assert run.state.log_history[-2]["eval_f1"] >= 0 and run.state.log_history[-2]["step"] == run.state.global_step
    rates = [entry["learning_rate"] for entry in run.state.log_history if "learning_rate" in entry]
    assert rates[-1] < 0.3 * rates[0]


def test_evaluation_uses_tuned_thresholds(tmp_path, tokenizer):
    model = build_model()
    everything = trainer(tmp_path, tokenizer, model=model).predict(corpus(1)).predictions
    model.config.thresholds = {"Gene": 0.9, "Cell": 0.2}
    tuned = trainer(tmp_path, tokenizer, model=model).predict(corpus(1)).predictions
    for one, two in zip(everything, tuned, strict=True):
        assert [e for e in one if e["label"] == "Gene" and e["score"] > 0.9] == [e for e in two if e["label"] == "Gene"]
        assert [e for e in one if e["label"] == "Place"] == [e for e in two if e["label"] == "Place"]
    assert any(e["score"] < 0.5 for entities in tuned for e in entities if e["label"] == "Cell")
    assert any(e["score"] < 0.9 for entities in everything for e in entities if e["label"] == "Gene")


def test_flat_evaluation_predicts_the_most_specific_type_of_a_span(tokenizer):
    """The prediction is chosen among all types, and then among the types of one document, "mayor" and "person"."""
    types = [
        EntityType("person", ("a person",)),
        EntityType("politician", ("a person in politics",), "person"),
        EntityType("mayor", ("the head of a city",), "politician"),
    ]
    documents = [Document("a", "ann", (Mention(0, 3, "mayor"),)), Document("b", "bob", types=("mayor", "person"))]
    dataset = WindowDataset(documents, BinderWindower(tokenizer, 64, 16), types, 12)
    assert [len(document.entities) for document in dataset.documents] == [3, 0] and dataset.annotated == documents
    decoding = Decoding(build_model(decoding="flat").config, dataset, None, "exact")
    spans, margins = torch.tensor([[0, 3, 0], [0, 3, 1], [0, 3, 2]]), torch.tensor([3.0, 2.0, 1.0])
    assert decoding.choose(spans, margins, None).tolist() == [2]
    assert decoding.choose(spans[:2], margins[:2], None).tolist() == [1]
    assert decoding.choose(spans[[0, 2]], margins[[0, 2]], [2, 0]).tolist() == [1]
    by_breadth = Decoding(
        build_model(decoding="flat", breadth_margin=1.0).config,
        WindowDataset([documents[0]], BinderWindower(tokenizer, 64, 16), ["person", "mayor"], 12),
        torch.tensor([5.0, 1.0]),
        "exact",
    )
    assert by_breadth.choose(torch.tensor([[0, 3, 0], [0, 3, 1]]), margins[:2], None).tolist() == [1]


def test_flat_predictions_with_parents_and_thresholds_equal_the_output_of_the_pipeline(tmp_path, tokenizer):
    types = [{"name": name, "description": text} for name, text in TYPES.items()]
    types[0]["parent"] = "Cell"
    types[1]["parent"] = "Place"
    model = build_model(decoding="flat", entity_types=types, thresholds={"Gene": 0.6, "Place": 0.3})
    texts = [document.text for document in corpus(1)]
    predictions = trainer(tmp_path, tokenizer, model=model).predict(corpus(1)).predictions
    found = BinderNerPipeline(model=model, tokenizer=tokenizer, device="cpu")(texts)
    expected = [[(e["start"], e["end"], e["entity_group"]) for e in entities] for entities in found]
    assert [[(e["start"], e["end"], e["label"]) for e in entities] for entities in predictions] == expected
    model.config.entity_types = [{**entity_type, "parent": None} for entity_type in types]
    without = BinderNerPipeline(model=model, tokenizer=tokenizer, device="cpu")(texts)
    assert [[(e["start"], e["end"], e["entity_group"]) for e in entities] for entities in without] != expected
