"""Texts for tests of exports, and functions that compare what two pipelines find in them."""

import pytest

from modeling_binder.finetuning import Document, Mention, write_jsonl
from tests.fresh_process import run

TEXT = "the IL-2 gene promoter of cells in oslo"
TEXTS = [TEXT, "", "cells. " * 50, "the gene of the IL-2-mediated effect"]


def keys(entities):
    return [(e["entity_group"], e["start"], e["end"]) for e in entities]


def assert_same_results(one, two, tolerance=1e-4):
    """Check that two lists of results are equal, with the same scores up to `tolerance`."""
    for first, second in zip(one, two, strict=True):
        assert keys(first) == keys(second)
        assert [e["score"] for e in first] == pytest.approx([e["score"] for e in second], abs=tolerance)


def files(folder):
    """Return the contents of the files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def write_found(path, pipe):
    """Write `TEXTS` to a JSONL file, with the entities that a pipeline finds as gold mentions."""
    documents = [
        Document(str(index), text, tuple(Mention(*span, label) for label, *span in keys(entities)))
        for index, (text, entities) in enumerate(zip(TEXTS, pipe(TEXTS), strict=True))
    ]
    write_jsonl(path, documents)


def found_without_the_package(folder, cache, **options):
    code = f"""
        import json
        from transformers import pipeline
        pipe = pipeline("binder-ner", model={str(folder)!r}, trust_remote_code=True, **{options!r})
        print(json.dumps(pipe({TEXT!r})))
    """
    return run(code, package=False, cache=cache)


def results_of_forked_processes(folder, cache, package=True, loads=True, **options):
    """Return what became of forked processes that should find the same entities as their parent, and end.

    The values are 0 (this went well), 3 (the entities differ), "hangs" and negative numbers of signals.

    The parent process has two threads, like a server that loads a model and then forks its workers. The children exit
    as gunicorn workers do: Python deletes all objects, and C++ destructors run. With `loads`, a child loads the model.
    """
    code = f"""
    import json, os, sys, time
    import torch
    from transformers import pipeline
    if {package}:
        import modeling_binder
    torch.set_num_threads(2)
    pipe = pipeline("binder-ner", model={str(folder)!r}, **{options!r})
    texts, matrix = ["the gene of cells in the il-2 " * 4] * 8, torch.ones(1000, 1000)
    expected, product = pipe(texts, threshold=0.1), matrix @ matrix

    def result_of_child(work):
        child = os.fork()
        if child == 0:
            sys.exit(0 if work() else 3)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(child, 9)
        return "hangs"

    def equal(one, two):
        # Scores may differ in their last digits if the weights have other addresses.
        return {{**one, "score": 0}} == {{**two, "score": 0}} and abs(one["score"] - two["score"]) < 1e-4

    def finds_the_same():
        found = [entity for entities in pipe(texts, threshold=0.1) for entity in entities]
        wanted = [entity for entities in expected for entity in entities]
        same = len(found) == len(wanted) and all(map(equal, found, wanted))
        return same and torch.equal(matrix @ matrix, product)

    def loads_the_model_again():
        global pipe
        pipe = pipeline("binder-ner", model={str(folder)!r}, **{options!r})
        return finds_the_same()

    works = [finds_the_same, lambda: True, lambda: result_of_child(finds_the_same) == 0]
    works += [loads_the_model_again] if {loads} else []
    print(json.dumps([result_of_child(work) for work in works]))
    """
    return run(code, package=package, cache=cache, OMP_NUM_THREADS=None, ORT_DISABLE_TELEMETRY=None)
