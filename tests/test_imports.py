"""Tests of importing the package: which modules are loaded, and which classes are registered with transformers."""

import ast
import importlib

import pytest

from tests.fresh_process import ROOT, run

PACKAGES = ["modeling_binder", "modeling_binder.finetuning", "modeling_binder.backends"]


@pytest.mark.parametrize(
    "statements",
    [
        "import modeling_binder",
        "import transformers.pipelines, modeling_binder",
        "from transformers import AutoModel; import modeling_binder",
        "import modeling_binder; import transformers.trainer",
        "from modeling_binder.configuration_binder import BinderConfig",
        "from modeling_binder.modeling_binder import BinderModel",
        "from modeling_binder.pipeline_binder import BinderNerPipeline",
        "from modeling_binder.encoders_binder import load_encoder",
        "from modeling_binder.types_binder import EntityType",
        "from modeling_binder.adapters_binder import AdapterMixin",
    ],
)
def test_all_classes_are_registered_in_any_order_of_imports(statements, checkpoint, tmp_path):
    code = f"""
    {statements}
    import json
    from transformers import AutoConfig, AutoModel, pipeline
    found = pipeline("binder-ner", model={str(checkpoint)!r})
    from modeling_binder import BinderConfig, BinderModel, BinderNerPipeline
    assert type(found) is BinderNerPipeline and type(found.model) is BinderModel
    assert type(AutoModel.from_pretrained({str(checkpoint)!r})) is BinderModel
    assert type(AutoConfig.from_pretrained({str(checkpoint)!r})) is BinderConfig
    print(json.dumps([BinderConfig._auto_class, BinderModel._auto_class]))
    """
    assert run(code, package=True, cache=tmp_path) == ["AutoConfig", "AutoModel"]


def test_auto_model_works_if_nothing_else_is_imported_from_transformers(checkpoint, tmp_path):
    code = f"""
    import inspect, json
    import modeling_binder
    from transformers import AutoModel
    import transformers.models.auto.modeling_auto as module
    assert module.__spec__.loader is module.__loader__
    assert "MODEL_MAPPING" in inspect.getsource(module), "a module keeps its own loader"
    print(json.dumps(type(AutoModel.from_pretrained({str(checkpoint)!r})).__name__))
    """
    assert run(code, package=True, cache=tmp_path) == "BinderModel"


def test_importing_the_package_does_not_load_large_libraries(tmp_path):
    code = """
    import json, sys
    import modeling_binder, modeling_binder.cli, modeling_binder.finetuning.formats, modeling_binder.backends.command
    libraries = ("torch", "transformers", "accelerate", "rich", "presidio_analyzer", "spacy")
    print(json.dumps([name for name in libraries if name in sys.modules]))
    """
    assert run(code, package=True, cache=tmp_path) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_lazy_names_are_the_public_names(name):
    """Lazy imports, `__all__` and the imports for type checkers list the same names of the same modules."""
    package = importlib.import_module(name)
    source = ROOT.joinpath(*name.split("."), "__init__.py").read_text(encoding="utf-8")
    blocks = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    checked = next(block for block in blocks if isinstance(block.test, ast.Name))
    imported = {alias.name: node.module for node in checked.body for alias in node.names}
    assert sorted(imported) == sorted(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    for public, module in imported.items():
        assert public not in imported.values(), "a public name must not be the name of a module"
        assert getattr(package, public) is getattr(importlib.import_module(f"{name}.{module}"), public)
        assert getattr(package, module) is importlib.import_module(f"{name}.{module}")
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = package.Nothing
