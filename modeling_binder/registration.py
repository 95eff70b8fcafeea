"""Register the model and the pipeline with transformers.

After `import modeling_binder`, the functions `transformers.pipeline("binder-ner", ...)` and
`AutoModel.from_pretrained` work, whichever package is imported first. But `import modeling_binder` does not import
transformers and torch, because this takes seconds, even for a command that only prints its help.

So the registration is delayed. transformers has three registries (AutoConfig, AutoModel and PIPELINE_REGISTRY). When
one of these registries is imported, the class of this package for the registry is imported and registered. If the
registry was imported before this package, the class is registered at once.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple


class _Registration(NamedTuple):
    """A class of this package, and the registry of transformers for it.

    Args:
        target: the module of transformers with the registry.
        registry: the name of the registry.
        home: the module of this package with the class.
        name: the name of the class.
        register: a function of the registry and the class, which registers the class.
    """

    target: str
    registry: str
    home: str
    name: str
    register: Callable[[Any, Any], None]


def _register_config(auto_config: Any, config: Any) -> None:
    auto_config.register("binder", config, exist_ok=True)
    config.register_for_auto_class()


def _register_model(auto_model: Any, model: Any) -> None:
    auto_model.register(model.config_class, model, exist_ok=True)
    model.register_for_auto_class("AutoModel")


def _register_pipeline(tasks: Any, pipeline: Any) -> None:
    from transformers import AutoModel

    if "binder-ner" not in tasks.get_supported_tasks():
        tasks.register_pipeline("binder-ner", pipeline_class=pipeline, pt_model=AutoModel, type="text")


_AUTO = "transformers.models.auto"
_REGISTRATIONS = (
    _Registration(
        f"{_AUTO}.configuration_auto",
        "AutoConfig",
        f"{__package__}.configuration_binder",
        "BinderConfig",
        _register_config,
    ),
    _Registration(
        f"{_AUTO}.modeling_auto", "AutoModel", f"{__package__}.modeling_binder", "BinderModel", _register_model
    ),
    _Registration(
        "transformers.pipelines",
        "PIPELINE_REGISTRY",
        f"{__package__}.pipeline_binder",
        "BinderNerPipeline",
        _register_pipeline,
    ),
)


def _register(registration: _Registration) -> None:
    """Import and register a class. Do nothing if its registry is not imported, or if its module is not complete yet."""
    registry = getattr(sys.modules.get(registration.target), registration.registry, None)
    if registry is None:
        return
    registered = getattr(importlib.import_module(registration.home), registration.name, None)
    if registered is not None:
        registration.register(registry, registered)


class _RegisteringLoader(Loader):
    """A loader of a module that uses another loader, and then registers a class."""

    def __init__(self, loader: Loader, registration: _Registration) -> None:
        self._loader, self._registration = loader, registration

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register(self._registration)


class _RegisteringFinder(MetaPathFinder):
    """Finds only the modules `target` and `home` of each registration, and gives them a `_RegisteringLoader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for registration in _REGISTRATIONS:
            if fullname in (registration.target, registration.home):
                finders = (finder for finder in sys.meta_path if finder is not self)
                found = (finder.find_spec(fullname, path, target) for finder in finders)
                spec = next((spec for spec in found if spec is not None), None)
                if spec is not None and spec.loader is not None:
                    spec.loader = _RegisteringLoader(spec.loader, registration)
                return spec
        return None


def register_on_import() -> None:
    """Register the classes of this package, now or when their registries are imported."""
    sys.meta_path.insert(0, _RegisteringFinder())
    for registration in _REGISTRATIONS:
        _register(registration)
