"""From the original files of a corpus to our JSONL: `python -m training.corpora NAME SOURCE_DIR OUT_DIR`.

One module reads one format; `benchmarks` knows which files of a distribution are which split, and what they should
hold.
"""
