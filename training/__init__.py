"""Commands that are run from a clone: fine-tuning, evaluation, the quickstart."""
