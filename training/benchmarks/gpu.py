"""Compare the speed of binder-ner on a GPU with its bare encoder: finding entities, and training.

    python -m training.benchmarks.gpu demo/model checkpoints/open-types-mpnet --texts training/open_types/dev.jsonl
    python -m training.benchmarks.gpu --tables  # only writes the table, from the JSON file

The bare encoder is the forward pass of the text encoder over the batches of the pipeline, without tokenisation. A
training step is compared with the forward and backward passes of both encoders over the same batches, and a step of
their optimizer. All rows of a model are measured in interleaved rounds, and the figures are medians over rounds.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from transformers import AutoTokenizer, TrainerCallback, TrainingArguments

from hub_cards.markdown import table
from modeling_binder import BinderModel
from modeling_binder.encoders_binder import encode
from modeling_binder.finetuning import BinderTrainer, read_documents
from modeling_binder.finetuning.data import write_json
from modeling_binder.loading import load_pipeline
from training.experiments.provenance import provenance
from training.pages import DOCS, write_between

from .contenders.floor import padded_batches
from .speed import without_folders

RESULTS = Path(__file__).parent / "gpu.json"
TYPES = {
    "person": "A person by name.",
    "organisation": "A company, an institution or another organisation.",
    "place": "A country, a city, a river or another place.",
    "date": "A day, a month, a year or a period.",
    "term": "A technical term.",
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
TRAINING = "training step"
BATCH_SIZE = 64


class Measurement(NamedTuple):
    """The name of a row, the work of a round, which returns its duration in seconds, and its number of tokens."""

    name: str
    work: Callable[[], float]
    tokens: int


class Steps(TrainerCallback):
    """Measures the seconds from the beginning of the first step to the end of the last step."""

    def __init__(self, device: str) -> None:
        self.device, self.began, self.seconds = device, 0.0, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if not self.began:
            _wait(self.device)
            self.began = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        _wait(self.device)
        self.seconds = time.perf_counter() - self.began


def timed(work: Callable[[], Any], device: str) -> Callable[[], float]:
    """Return a function that does some work, waits for the device, and returns the duration in seconds."""

    def measured() -> float:
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        return time.perf_counter() - began

    return measured


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def finding(model: str, texts: list[str], device: str, compiled: bool) -> Iterator[Measurement]:
    """Yield the contenders that find entities. A round reads all texts."""
    for precision, dtype in PRECISIONS.items():
        pipe = load_pipeline(model, device=device, dtype=dtype)
        config = pipe.model.config
        padded = padded_batches(pipe.tokenizer, texts, config.max_length, config.stride, BATCH_SIZE)
        batches = [batch.to(pipe.device) for batch in padded]
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        encoder = pipe.model.text_encoder

        def forward(encoder: Any = encoder, batches: Any = batches) -> None:
            with torch.inference_mode():
                for batch in batches:
                    encode(encoder, batch["input_ids"], batch["attention_mask"], None)

        find = partial(pipe, texts, entity_types=TYPES, batch_size=BATCH_SIZE)
        yield Measurement(f"bare encoder, {precision}", timed(forward, device), tokens)
        yield Measurement(f"binder-ner, {precision}", timed(find, device), tokens)
    if compiled:
        pipe = load_pipeline(model, device=device, dtype=torch.bfloat16, compile=True)
        find = partial(pipe, texts, entity_types=TYPES, batch_size=BATCH_SIZE)
        yield Measurement("binder-ner, bf16, compile", timed(find, device), tokens)


def training(model: str, documents: Path, device: str, steps: int) -> Iterator[Measurement]:
    """Yield the contenders that train, on a GPU in bfloat16. A round has some optimizer steps."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [
        replace(document, types=None, entities=tuple(replace(mention, label="term") for mention in document.entities))
        for document in read_documents(documents)
    ]

    clock = Steps(device)

    def trainer() -> BinderTrainer:
        trained = BinderModel.from_pretrained(model, dtype=torch.float32)
        trained.config.entity_types = [{"name": name, "description": text} for name, text in TYPES.items()]
        arguments = TrainingArguments(
            output_dir="unused",
            max_steps=steps,
            per_device_train_batch_size=32,
            bf16=device.startswith("cuda"),
            use_cpu=device == "cpu",
            report_to="none",
            save_strategy="no",
            logging_steps=steps,
            disable_tqdm=True,
            seed=0,
        )
        return BinderTrainer(trained, arguments, rows, processing_class=tokenizer, callbacks=[clock])

    batches = list(islice(trainer().get_train_dataloader(), steps))
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    bare = BinderModel.from_pretrained(model, dtype=torch.float32).to(device).train()
    encoders = (bare.text_encoder, bare.type_encoder)
    optimizer = torch.optim.AdamW([weight for part in encoders for weight in part.parameters()], lr=3e-5, fused=True)

    def passes() -> None:
        for batch in batches:
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            for encoder, prefix in zip(encoders, ("", "type_"), strict=True):
                with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=device.startswith("cuda")):
                    hidden = encode(encoder, moved[f"{prefix}input_ids"], moved[f"{prefix}attention_mask"], None)
                hidden.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    def train() -> float:
        trainer().train()
        return clock.seconds

    yield Measurement(f"bare encoders, {TRAINING}", timed(passes, device), tokens)
    yield Measurement(f"binder-ner, {TRAINING}", train, tokens)


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each model and contender, with the tokens per second of each round."""
    texts = [document.text for document in read_documents(arguments.texts)][: arguments.limit]
    texts *= arguments.repeat
    results = []
    for model in arguments.models:
        contenders = [*finding(model, texts, arguments.device, arguments.compile)]
        contenders += training(model, arguments.texts, arguments.device, arguments.steps)
        rounds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for number in range(arguments.rounds + 1):  # the first round is a warm-up
            for name, work, tokens in contenders:
                speed = tokens / work()
                print(f"{model}, {name}, round {number}: {speed:,.0f} tokens/s", file=sys.stderr, flush=True)
                if number:
                    rounds[name].append(speed)
        results += [{"model": model, "contender": name, "rounds": speeds} for name, speeds in rounds.items()]
    return results


def page(results: dict[str, Any]) -> str:
    """Return the table of a file of results."""
    rows = []
    by_name = {(row["model"], row["contender"]): row["rounds"] for row in results["rows"]}
    for (model, name), rounds in by_name.items():
        floor = f"bare encoders, {TRAINING}" if name.endswith(TRAINING) else f"bare encoder, {name.split(', ')[1]}"
        ratio = median(one / other for one, other in zip(rounds, by_name[model, floor], strict=True))
        rows.append([model, name, f"{median(rounds):,.0f}", f"{ratio:.2f}"])
    about = results["about"]
    head = (
        f"{about['device']}, {about['texts']} texts, {len(TYPES)} types, medians of {about['rounds']} interleaved "
        f"rounds. Command: `{without_folders(about['command'])}` at commit {about['commit']}, {about['date']}."
    )
    return f"{head}\n\n{table(['model', 'contender', 'tokens/s', 'relative to the bare encoder'], rows, numbers=2)}"


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m training.benchmarks.gpu", description="Measure binder-ner and its bare encoder on a GPU."
    )
    parser.add_argument("models", nargs="*", help="checkpoints, with two encoders each")
    parser.add_argument("--texts", type=Path, help="file of annotated documents")
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--limit", type=int, default=700, help="maximum number of texts; default: 700")
    parser.add_argument("--repeat", type=int, default=4, help="how often all texts are read in a round; default: 4")
    parser.add_argument("--steps", type=int, default=20, help="training steps in a round; default: 20")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds; default: 5")
    parser.add_argument("--compile", action="store_true", help="also measure the pipeline with torch.compile")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of results (JSON)")
    parser.add_argument("--page", type=Path, default=DOCS / "speed.md", help="page with the table")
    parser.add_argument("--tables", action="store_true", help="only write the table, from the JSON file")
    arguments = parser.parse_args(argv)
    if not arguments.tables:
        if not arguments.models or arguments.texts is None:
            parser.error("pass the models and --texts FILE, or --tables.")
        about = provenance("training.benchmarks.gpu", argv, None, {}, "gpu")
        facts = {name: about[name] for name in ("command", "commit", "device")}
        facts |= {"date": str(date.today()), "rounds": arguments.rounds, "texts": arguments.limit * arguments.repeat}
        write_json(arguments.out, {"about": facts, "rows": measure(arguments)})
    write_between(arguments.page, "gpu", page(json.loads(arguments.out.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
