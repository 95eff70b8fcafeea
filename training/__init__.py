"""Commands that run from a clone: fine-tuning, evaluation, the quickstart and the experiments."""
