"""Train the breadth network, which estimates how broad an entity type is.

Flat decoding uses the network to choose the narrowest type of a span.

    python -m training.experiments.breadth checkpoints/open training/open_types --dev corpora/news corpora/aptner \\
        --out checkpoints/open-breadth --json breadth.json

The network learns from pairs of a fine type ("politician") and a broad type ("person"). Most mentions of the fine type
are also mentions of the broad type, but not vice versa. The input of the network is the state of the type encoder for
the name or a description of a type. The output is a number, the breadth of the type.

The command has three steps:

1. Test: hold out a share of the types, and train a network on the pairs without these types. Report how many of the
   other pairs the network puts in the right order.
2. Training: train the network on all pairs.
3. Tuning: choose `config.breadth_margin` and then `config.breadth_tolerance` by the mean F1 on the `--dev` corpora, in
   flat decoding and with types passed by name. A type counts as broader than another type if its breadth is larger by
   more than `config.breadth_margin`. The chosen margin is the smallest one whose F1 is at most half a point below the
   best. The chosen tolerance has the highest F1. If F1 is highest without the network, nothing is written to `--out`.
"""

import argparse
import math
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from transformers import pipeline

from modeling_binder import BinderModel
from modeling_binder.breadth_binder import BreadthNetwork, broader_types
from modeling_binder.decoding_binder import flat_spans
from modeling_binder.finetuning import DataError, compute_span_metrics, load_corpus
from modeling_binder.finetuning.data import write_json
from modeling_binder.finetuning.parts import encode_phrasings
from modeling_binder.processing_binder import BinderWindower
from training.experiments.breadth_pairs import Pair, count_pairs, held_out, texts_of
from training.experiments.provenance import provenance
from training.experiments.zero_shot import Task, predict, wordings
from training.mixes import Folders

MIN_PAIRS = 10
NOISE = 0.005  # a difference of F1 that may be chance
# Margins to try. With an infinite margin, no type counts as broader. This is the same as having no network.
MARGINS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, math.inf)
# Tolerances to try. The finer type of a span wins if the score margin of the broader type is larger by at most the
# tolerance. With an infinite tolerance, the finer type always wins.
TOLERANCES = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, math.inf)


@dataclass(frozen=True)
class Training:
    """Hyper-parameters of the network.

    Args:
        epochs: number of passes over the training pairs.
        batch_size: number of pairs in a batch.
        learning_rate, weight_decay: parameters of the optimizer AdamW.
        held_out: share of the types that are held out in the test. Pairs with these types are not used to train the
            network of the test.
        seed: seed for the initial weights, the order of the pairs, and the choice of the held-out types.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    held_out: float = 0.15
    seed: int = 7


class PhrasedTypes:
    """Encoder states of the texts (names and descriptions) of types.

    Args:
        texts: type -> its texts.
        states: [P, H], states of all P texts in the order of `texts`, from the type encoder with hidden size H.
    """

    def __init__(self, texts: Mapping[str, Sequence[str]], states: Tensor) -> None:
        self.states = states
        self.first: dict[str, int] = {}
        self.number = {label: len(found) for label, found in texts.items()}
        position = 0
        for label, found in texts.items():
            self.first[label] = position
            position += len(found)

    def draw(self, labels: Sequence[str], generator: random.Random) -> Tensor:
        """Return the state of one random text of each of N types, [N, H]."""
        rows = [self.first[label] + generator.randrange(self.number[label]) for label in labels]
        return self.states[rows]

    def mean_breadth(self, network: nn.Module) -> dict[str, float]:
        """Return the breadth of each type: the mean breadth of its texts."""
        with torch.no_grad():
            breadths = network(self.states)
        return {
            label: float(breadths[first : first + self.number[label]].mean()) for label, first in self.first.items()
        }


def train_network(
    network: BreadthNetwork, pairs: Sequence[Pair], types: PhrasedTypes, training: Training
) -> BreadthNetwork:
    """Train a network, so that the broad type of each pair gets a larger breadth than the fine type.

    The loss is -log(sigmoid(breadth of the broad type - breadth of the fine type)).
    """
    generator = random.Random(training.seed)
    network.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    for _ in range(training.epochs):
        order = generator.sample(pairs, len(pairs))
        for begin in range(0, len(order), training.batch_size):
            batch = order[begin : begin + training.batch_size]
            broad = network(types.draw([pair.broad for pair in batch], generator))
            fine = network(types.draw([pair.fine for pair in batch], generator))
            optimizer.zero_grad()
            nn.functional.softplus(fine - broad).mean().backward()
            optimizer.step()
    return network.requires_grad_(False).eval()


def new_network(model: BinderModel, seed: int) -> BreadthNetwork:
    """Return an untrained network that fits the type encoder of a model."""
    torch.manual_seed(seed)
    type_config: Any = model.config.type_config or model.config.text_config
    return BreadthNetwork(type_config.hidden_size).to(model.start_head.scale.device)


def order_of_unseen(
    model: BinderModel, pairs: Sequence[Pair], types: PhrasedTypes, training: Training
) -> dict[str, Any]:
    """Train a network without some hidden types, and test it on the pairs that contain a hidden type.

    Returns:
        The numbers of hidden types and of pairs, and the share of the test pairs in the right order. `by_margin`
        contains two values for each margin. The first value (`decided`) is the share of the test pairs whose breadths
        differ by more than the margin. The second value is the share of the decided pairs that are in the right order.
    """
    labels = sorted({label for pair in pairs for label in (pair.broad, pair.fine)})
    hidden = random.Random(training.seed).sample(labels, max(1, round(training.held_out * len(labels))))
    seen, test = held_out(pairs, hidden)
    if not seen or not test:
        raise DataError(
            "the pairs cannot be divided into training and test pairs, because they have too few types; pass further "
            "corpora."
        )
    breadth = types.mean_breadth(train_network(new_network(model, training.seed), seen, types, training))
    unseen = [pair for pair in test if pair.broad in hidden and pair.fine in hidden]
    right = {name: _share(found, breadth) for name, found in (("one", test), ("both", unseen))}
    differences = [breadth[pair.broad] - breadth[pair.fine] for pair in test]
    clear = {margin: [value for value in differences if abs(value) > margin] for margin in MARGINS}
    return {
        "hidden_types": len(hidden),
        "training_pairs": len(seen),
        "test_pairs": len(test),
        "right_order": right["one"],
        "test_pairs_of_two_hidden_types": len(unseen),
        "right_order_of_two_hidden_types": right["both"],
        "by_margin": {
            str(margin): {
                "decided": len(found) / len(test),
                "right_order": sum(value > 0 for value in found) / len(found) if found else None,
            }
            for margin, found in clear.items()
        },
    }


def _share(pairs: Sequence[Pair], breadth: Mapping[str, float]) -> float | None:
    return mean(breadth[pair.broad] > breadth[pair.fine] for pair in pairs) if pairs else None


class NestedResults:
    """The spans that the pipeline finds with nested decoding. Flat decoding with different settings selects from them.

    Args:
        recognizer: a "binder-ner" pipeline with the checkpoint. It runs only once for each corpus.
        network: a trained network.
        tasks: name of a corpus -> documents and types.
    """

    def __init__(self, recognizer: Any, network: nn.Module, tasks: Mapping[str, Task]) -> None:
        self.tasks = tasks
        self._found: dict[str, tuple[list[str], Tensor, Any]] = {}
        for name, task in tasks.items():
            by_name = wordings(task.types)[0]
            breadths = network(states_of(recognizer.model, recognizer.tokenizer, by_name.texts.values()))
            self._found[name] = list(by_name.texts), breadths, predict(recognizer, task, by_name, "nested")

    def scores(self, margin: float, tolerance: float | None = None) -> dict[str, float]:
        """Return the F1 of flat decoding on each corpus."""
        scores = {}
        for name, (labels, breadths, found) in self._found.items():
            broader = broader_types(dict.fromkeys(labels), breadths, margin, tolerance)
            gold = [document.entities for document in self.tasks[name].documents]
            predicted = [flatten(spans, labels, broader) for spans in found]
            scores[name] = compute_span_metrics(gold, predicted, labels).micro.f1
        return scores


def flatten(
    spans: Sequence[tuple[int, int, str, float]], labels: Sequence[str], broader: Tensor | None
) -> list[tuple[int, int, str]]:
    """Select spans that do not overlap from the result of nested decoding, as flat decoding does in the pipeline.

    Args:
        spans: (start, end, label, score) of each span in a document.
        labels: the T types.
        broader: [T, T], which types are broader than which other types (see `breadth_binder.broader_types`), or None.
    """
    if not spans:
        return []
    starts, ends = (torch.tensor([span[column] for span in spans]) for column in (0, 1))
    types = torch.tensor([labels.index(span[2]) for span in spans])
    margins = torch.logit(torch.tensor([span[3] for span in spans], dtype=torch.float64))
    required = torch.zeros(len(labels), dtype=torch.float64)
    kept = flat_spans(starts, ends, types, margins, required, broader=broader).tolist()
    return [(spans[index][0], spans[index][1], spans[index][2]) for index in kept]


def best_margin(scores: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the margin or tolerance with the highest mean F1. Among equally good values, return the largest value.

    If the best value is infinity, return None. With an infinite margin, no type counts as broader. This is the same as
    having no network. With an infinite tolerance, the finer type always wins.
    """
    means = _means(scores)
    best = max(means, key=lambda margin: (means[margin], margin))
    return None if best == math.inf else best


def _means(scores: Mapping[str, Mapping[str, float]]) -> dict[float, float]:
    return {float(value): mean(found.values()) for value, found in scores.items()}


def chosen_margin(scores: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the smallest margin whose mean F1 is at most `NOISE` below the best, or None as `best_margin` does.

    Small differences of F1 on a few hundred texts are chance, and a smaller margin decides more pairs of types.
    """
    best = best_margin(scores)
    if best is None:
        return None
    means = _means(scores)
    return min(margin for margin in means if means[margin] >= means[best] - NOISE)


def states_of(model: BinderModel, tokenizer: Any, texts: Iterable[str]) -> Tensor:
    """Return the pooled states [P, H] of P texts, from the type encoder with hidden size H."""
    return encode_phrasings(model, BinderWindower.for_model(model, tokenizer), texts)


def read_tasks(folders: Sequence[Path], limit: int | None) -> dict[str, Task]:
    """Read the corpora on which the margin is tuned.

    The development set of a corpus is used. If it is missing, the test set is used. If both are missing, the training
    set is used.

    Raises:
        DataError: a corpus cannot be read, it has no documents, or its mentions overlap.
    """
    tasks = {}
    for folder in folders:
        corpus = load_corpus(folder)
        task = Task.of(corpus, str(folder), "dev" if corpus.dev else None, [], limit)
        if task.decoding == "nested":
            raise DataError(
                f"{folder}: mentions overlap, but the margin is tuned for flat decoding; pass a corpus without "
                "overlapping mentions."
            )
        tasks[folder.resolve().name] = task
    return tasks


def save(
    model: BinderModel,
    tokenizer: Any,
    network: BreadthNetwork,
    margin: float,
    tolerance: float | None,
    folder: Path,
) -> None:
    """Write a checkpoint with the model, the network, the margin and the tolerance."""
    model.breadth = network
    model.config.use_breadth = True
    model.config.breadth_margin = margin
    model.config.breadth_tolerance = tolerance
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.breadth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="folder or id on the Hub")
    parser.add_argument("corpora", nargs="+", help="folders of corpora with fine and broad types")
    parser.add_argument("--data", help="folder of the corpora; defaults to $BINDER_DATA")
    parser.add_argument(
        "--dev", nargs="+", required=True, help="corpora without overlapping mentions, on which the margin is tuned"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder for the checkpoint with the network")
    parser.add_argument(
        "--limit", type=int, default=1000, help="maximum number of texts of each --dev corpus (default 1000)"
    )
    parser.add_argument("--epochs", type=int, default=Training.epochs, help=f"default {Training.epochs}")
    parser.add_argument("--seed", type=int, default=Training.seed, help=f"default {Training.seed}")
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Test and train the network, tune the margin, and save the checkpoint. Return the results."""
    training = Training(epochs=arguments.epochs, seed=arguments.seed)
    folders = Folders(arguments.data)
    corpora = [load_corpus(folders.find(corpus)) for corpus in arguments.corpora]
    tasks = read_tasks([folders.find(corpus) for corpus in arguments.dev], arguments.limit)
    options = {"device": torch.device(arguments.device)} if arguments.device else {}
    recognizer = pipeline("binder-ner", model=arguments.checkpoint, dtype=torch.float32, **options)
    model, tokenizer = recognizer.model, recognizer.tokenizer
    pairs = count_pairs(corpora)
    if len(pairs) < MIN_PAIRS:
        raise DataError(
            f"{len(pairs)} pairs of types are too few; pass corpora in which spans have a fine and a broad type."
        )
    labels = {label for pair in pairs for label in (pair.broad, pair.fine)}
    texts = texts_of((entity_type for corpus in corpora for entity_type in corpus.types), labels)
    types = PhrasedTypes(texts, states_of(model, tokenizer, (text for found in texts.values() for text in found)))
    unseen = order_of_unseen(model, pairs, types, training)
    network = train_network(new_network(model, training.seed), pairs, types, training)
    breadth = types.mean_breadth(network)
    nested = NestedResults(recognizer, network, tasks)
    scores = {str(margin): nested.scores(margin) for margin in MARGINS}
    margin, tolerance, tolerance_scores = chosen_margin(scores), None, {}
    if margin is not None:
        tolerance_scores = {str(limit): nested.scores(margin, limit) for limit in TOLERANCES}
        tolerance = best_margin(tolerance_scores)
        save(model, tokenizer, network, margin, tolerance, arguments.out)
    return {
        "pairs": len(pairs),
        "types": len(labels),
        **unseen,
        "margin": margin,
        "f1_by_margin": scores,
        "tolerance": tolerance,
        "f1_by_tolerance": tolerance_scores,
        "texts": {name: len(task.documents) for name, task in tasks.items()},
        "breadth": dict(sorted(breadth.items(), key=lambda item: -item[1])),
    }


def report(results: Mapping[str, Any]) -> str:
    """Return the results as lines for the terminal."""
    lines = [
        f"There are {results['pairs']:,} pairs of a fine and a broad type, made from {results['types']:,} types. "
        f"{results['test_pairs']:,} of these pairs contain at least one of {results['hidden_types']:,} types that were "
        f"kept out of training. The network puts {results['right_order']:.1%} of these {results['test_pairs']:,} pairs "
        "in the right order.",
        f"{'margin':>6}  " + "  ".join([*results["texts"], "mean"]),
    ]
    lines += _lines(results["f1_by_margin"], results["margin"])
    if results["f1_by_tolerance"]:
        lines += [f"With the margin {results['margin']}, by tolerance:"]
        lines += _lines(results["f1_by_tolerance"], results["tolerance"])
    return "\n".join(lines)


def _lines(scores: Mapping[str, Mapping[str, float]], chosen: float | None) -> list[str]:
    lines = []
    for value, found in scores.items():
        cells = [f"{100 * f1:{len(name)}.1f}" for name, f1 in (*found.items(), ("mean", mean(found.values())))]
        mark = "  <" if float(value) == (math.inf if chosen is None else chosen) else ""
        lines.append(f"{value:>6}  {'  '.join(cells)}{mark}")
    return lines


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
    try:
        results = run(arguments)
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    results = {"origin": provenance("training.experiments.breadth", argv, None, {}, "breadth"), **results}
    if arguments.json:
        write_json(arguments.json, results)
    print(report(results))
    if results["margin"] is None:
        print("F1 is highest without the network, so no checkpoint was written.")
    else:
        print(f"Saved in {arguments.out}.")
    return results


if __name__ == "__main__":
    main()
