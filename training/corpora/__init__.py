"""Convert the original files of a corpus to JSONL: `python -m training.corpora NAME SOURCE_DIR OUT_DIR`.

`benchmarks` lists the files of each benchmark and how many mentions each split has. `ace` and `genia_xml` read the
formats that only ACE and GENIA use. Common formats are read by `modeling_binder.finetuning.formats`.
"""
