"""Find the thresholds that are best on development data, and save them in the checkpoint.

  binder-ner tune-thresholds checkpoints/mine my_corpus/dev.jsonl
  binder-ner tune-thresholds checkpoints/mine my_corpus/dev.jsonl --precision 0.95 --output checkpoints/precise
  binder-ner tune-thresholds user/name dev.jsonl --output tuned --calibrate --plot reliability.png

The pipeline then uses these thresholds by default. Do not tune thresholds on test data: F1 on these texts would then be
too high. docs/tutorials/tune-thresholds.md explains the choices.
"""

import argparse
from pathlib import Path

from . import CommandError

_SHOWN_TYPES = 20  # for each reason to use the shared threshold, at most this number of types is listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder, or id on the Hub (which needs --output)")
    add("dev", metavar="DEV", type=Path, help="development data: documents with gold mentions, in any format")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--metric",
        choices=["f1", "macro-f1"],
        help="maximise micro F1, or the F1 of each type (default: f1)",
    )
    goal.add_argument(
        "--precision", metavar="P", type=float, help="for each type, find the lowest threshold with this precision"
    )
    goal.add_argument(
        "--recall", metavar="R", type=float, help="for each type, find the highest threshold with this recall"
    )
    add("--output", metavar="FOLDER", type=Path, help="write a changed copy (default: change MODEL itself)")
    add("--types", metavar="FILE", type=Path, help="JSON, name -> description (default: the model's types)")
    add("--decoding", choices=["nested", "flat"], help="decoding to tune for (default: the model's)")
    add(
        "--min-mentions",
        metavar="N",
        type=int,
        default=20,
        help="types with fewer mentions in DEV share a threshold (default: 20)",
    )
    add("--calibrate", action="store_true", help="also fit temperatures, so that scores are probabilities")
    add("--plot", metavar="FILE", type=Path, help="with --calibrate: plot the precision at each score")
    add("--device", help="such as cpu (default: the first GPU, if there is one)")
    add("--batch-size", metavar="N", type=int, default=32, help="windows per batch (default: 32)")


def run(arguments: argparse.Namespace) -> int:
    """Tune thresholds, print them with the metrics before and after, and write the checkpoint."""
    if arguments.plot and not arguments.calibrate:
        raise CommandError("--plot draws the calibration: add --calibrate, or leave out --plot.")
    from ..finetuning.data import read_types
    from ..finetuning.formats import read_documents

    try:
        from ..finetuning.thresholds import tune_thresholds
        from ..finetuning.tuned_checkpoint import check_target, save_tuned
    except ImportError as error:
        raise CommandError(f"{error}; tuning needs further packages: pip install 'binder-ner[train]'.") from error

    from ..finetuning import calibration

    check_target(arguments.model, arguments.output)
    if arguments.plot:
        calibration.check_plot(arguments.plot)
    tuned = tune_thresholds(
        arguments.model,
        read_documents(arguments.dev),
        metric=arguments.metric or "f1",
        precision=arguments.precision,
        recall=arguments.recall,
        calibrate=arguments.calibrate,
        entity_types=read_types(arguments.types) if arguments.types else None,
        decoding=arguments.decoding,
        min_mentions=arguments.min_mentions,
        batch_size=arguments.batch_size,
        device=arguments.device,
    )
    print(tuned.table())
    if len(tuned.own) < len(tuned.mentions):
        print(f"({tuned.default_threshold:g}) is the shared threshold")
        for labels, reason in (
            (tuned.few, f"fewer than {tuned.min_mentions} mentions"),
            (tuned.redescribed, "the description differs from the model's, so the type has no threshold in the model"),
            (tuned.unknown, "not a type of the model"),
        ):
            if labels:
                more = f" and {len(labels) - _SHOWN_TYPES:,} more" if len(labels) > _SHOWN_TYPES else ""
                print(f"  {', '.join(labels[:_SHOWN_TYPES])}{more}: {reason}")
    for label in tuned.unreached:
        reached = getattr(tuned.after.per_type[label], tuned.objective.metric)
        print(f"{label}: does not reach {tuned.objective.metric} {tuned.objective.target:g}; it reaches {reached:.4f}")
    if report := tuned.calibration:
        print(
            f"expected calibration error: {100 * report.error_before:.2f} % before, {100 * report.error_after:.2f} % "
            f"after, on {report.spans:,} spans"
            + ("" if report.helped else ": calibration did not help and is not saved")
        )
    if arguments.plot and tuned.calibration:
        calibration.draw(tuned.calibration, arguments.plot)
        print(arguments.plot)
    print(f"thresholds written to {save_tuned(tuned, arguments.model, arguments.output)}")
    return 0
