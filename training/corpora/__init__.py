"""Convert the original files of a corpus to JSONL: `python -m training.corpora NAME SOURCE_DIR OUT_DIR`.

`benchmarks` knows which files of a distribution are which split and how many mentions they hold; `ace` and `genia_xml`
read formats that only these corpora have. Formats that people bring are read by `modeling_binder.finetuning.formats`.
"""
