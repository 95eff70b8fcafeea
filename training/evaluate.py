"""Evaluate a checkpoint.

    python -m training.evaluate checkpoints/quickstart training/sample/test.jsonl --json metrics.json
    python -m training.evaluate checkpoints/quickstart training/sample/test.jsonl --errors errors.html

The command prints precision, recall and F1 for each type, micro and macro averages, and the score of nested mentions.
It also prints the scores of the four schemes of SemEval-2013 (strict, boundary, partial and type). The command
`binder-ner evaluate` does the same.
"""

import argparse
import sys

from modeling_binder.cli import CommandError
from modeling_binder.cli.evaluate import add_arguments, evaluate_model
from modeling_binder.finetuning import SpanMetrics


def main(argv: list[str] | None = None) -> SpanMetrics:
    """Run the command and return the metrics."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    try:
        return evaluate_model(parser.parse_args(argv))
    except (CommandError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
