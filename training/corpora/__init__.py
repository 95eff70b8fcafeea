"""Convert the original files of a corpus to JSONL: `python -m training.corpora NAME SOURCE_DIR OUT_DIR`.

`benchmarks` lists the files of each benchmark, and the number of mentions in each split. `ace` and `genia_xml` read the
formats that only ACE and GENIA use. `modeling_binder.finetuning.formats` reads common formats.
"""
