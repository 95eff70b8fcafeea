"""Load, switch and merge adapters of PEFT, such as LoRA. Each adapter has its own entity types and settings.

An adapter is a folder or repository with these files:

- `adapter_config.json`: the configuration of PEFT. It contains the folder or id of the base model.
- `adapter_model.safetensors`: the weights.
- `binder_config.json`: the entity types of the adapter and other fields of `BinderConfig` that depend on the corpus.
  PEFT has no place for these fields. The file is not called config.json, because transformers treats a folder with
  config.json as a complete model.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import AutoConfig
from transformers.utils import cached_file, find_adapter_config_file, is_peft_available, logging

from .configuration_binder import BinderConfig

logger = logging.get_logger(__name__)

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_SETTINGS = "binder_config.json"
INSTALL_PEFT = "pip install 'binder-ner[peft]'"

# Fields of BinderConfig that depend on the corpus. The other fields depend on the weights of the base model.
_FIELDS = (
    "entity_types",
    "thresholds",
    "default_threshold",
    "temperatures",
    "default_temperature",
    "decoding",
    "inference",
    "max_length",
    "stride",
    "use_breadth",
)
_LOCATION = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
_OPTIONAL_FILE = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
    "_raise_exceptions_for_gated_repo": False,
}


def unwrapped(model: Any) -> Any:
    """Return the `BinderModel` inside a `PeftModel`. Return any other model unchanged."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def active_adapter(model: Any) -> str | None:
    """Return the name of the active adapter of a `BinderModel` or `PeftModel`, or None if it has no adapters.

    Raises:
        ValueError: several adapters are active.
    """
    if not getattr(model, "peft_config", None):
        return None
    active = model.active_adapters
    names = active() if callable(active) else active
    if len(names) != 1:
        raise ValueError(f"expected one active adapter, got {names}: choose one with model.set_adapter(name).")
    name: str = names[0]
    return name


def adapter_settings(config: BinderConfig) -> dict[str, Any]:
    """Return the fields of a configuration that belong to an adapter."""
    return {name: getattr(config, name) for name in _FIELDS if hasattr(config, name)}


def save_adapter_settings(config: BinderConfig, folder: str | os.PathLike[str]) -> None:
    """Write `binder_config.json` to the folder of an adapter."""
    with open(os.path.join(folder, ADAPTER_SETTINGS), "w", encoding="utf-8") as file:
        json.dump(adapter_settings(config), file, indent=2, ensure_ascii=False)
        file.write("\n")


def check_folder(folder: str | os.PathLike[str], adapter: bool) -> None:
    """Check that an adapter and a complete model are not saved in the same folder.

    transformers would load both.

    Args:
        folder: the folder in which a model will be saved.
        adapter: true if the model to save is an adapter, false if it is a complete model.

    Raises:
        ValueError: the folder contains a complete model and an adapter will be saved, or the other way round.
    """
    other = "config.json" if adapter else ADAPTER_CONFIG
    if os.path.exists(os.path.join(folder, other)):
        kinds = ("an adapter", "a complete model")
        saved, there = kinds if adapter else kinds[::-1]
        raise ValueError(
            f"{folder} contains {there} ({other}). If {saved} is saved there, both will be loaded: choose another "
            f"folder, or delete {other}."
        )


def base_of_adapter(name: str | os.PathLike[str], **location: Any) -> str | None:
    """Return the folder or id of the base model of an adapter, or None if `name` is not an adapter.

    Args:
        name: folder, or id on the Hub.
        location: `revision`, `token`, `cache_dir`, ... of the adapter.

    Raises:
        ValueError: peft is not installed, or the base model is missing, or it is not a BINDER model.
    """
    path = find_adapter_config_file(str(name), **{key: location[key] for key in _LOCATION if key in location})
    if path is None:
        return None
    if not is_peft_available():
        raise ValueError(f"{name} is an adapter, and the package peft is missing: {INSTALL_PEFT}.")
    with open(path, encoding="utf-8") as file:
        base: str | None = json.load(file).get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"{name} is an adapter without a base model: set base_model_name_or_path in its {ADAPTER_CONFIG}."
        )
    try:
        found = AutoConfig.from_pretrained(base, **{key: location[key] for key in ("token",) if key in location})
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the base model {base!r} of the adapter {name} cannot be loaded. If it was moved, correct "
            f"base_model_name_or_path in {ADAPTER_CONFIG}. ({' '.join(str(error).split())})"
        ) from error
    if found.model_type != "binder":
        raise ValueError(
            f"the base model {base!r} of the adapter {name} is a {found.model_type!r} model, not 'binder'."
        )
    return base


def has_adapter_state(module: nn.Module) -> bool:
    """Return whether a module is a layer with adapters. This function does not import PEFT."""
    return hasattr(module, "_active_adapter") and hasattr(module, "_disable_adapters")


class AdapterMixin:
    """Extends the adapter methods of transformers. They also switch the settings and the heads of the adapters."""

    config: Any
    peft_config: Any
    name_or_path: str
    _settings_of_adapters: dict[str | None, dict[str, Any]]  # name of an adapter, or None for the base -> settings
    _sources_of_adapters: dict[str, Any]  # name of an adapter -> folder or id on the Hub

    @property
    def has_adapters(self) -> bool:
        """Whether adapters were loaded into this model or added to it."""
        return bool(getattr(self, "_hf_peft_config_loaded", False))

    @property
    def source(self) -> str:
        """Folder or id on the Hub of the active adapter. If the model has no adapters, its own folder or id."""
        if self.has_adapters:
            return str(self._sources_of_adapters.get(str(active_adapter(self)), ""))
        return str(self.name_or_path)

    def load_adapter(self, peft_model_id: Any = None, adapter_name: str | None = None, **options: Any) -> Any:
        """Load an adapter as in transformers, and activate it. `config` then has the entity types of the adapter.

        Args:
            peft_model_id: folder, or id on the Hub.
            adapter_name: name of the adapter in this model. Defaults to "default".
            options: see `PreTrainedModel.load_adapter`.

        Returns:
            None. With the option `load_config`, which `from_pretrained` passes, the loading info of transformers.

        Raises:
            ValueError: peft is not installed, or the adapter does not fit this model.
            OSError: the adapter is not found, or it has no weights in the format safetensors.
        """
        if not is_peft_available():
            raise ValueError(f"the package peft is missing, which loads adapters: {INSTALL_PEFT}.")
        self._remember_base()
        name = adapter_name or "default"
        location = _location(options)
        if peft_model_id is not None:
            # raises if the adapter has no safetensors, because transformers would then load an unsafe pickle file
            _check_weights(peft_model_id, location)
        hotswapped = name in (getattr(self, "peft_config", None) or {})
        before = set() if hotswapped else set(self.state_dict())  # type: ignore[attr-defined]
        conversions = self.__dict__.get("_weight_conversions")
        try:
            with _without_reports():
                loaded = super().load_adapter(peft_model_id, adapter_name=name, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise ValueError(
                f"the adapter {peft_model_id} does not fit the base model {self.config._name_or_path}; load it into "
                f"the base model in its {ADAPTER_CONFIG}. ({' '.join(str(error).split())[:300]})"
            ) from error
        _warn_about_missing(name, set(loaded.missing_keys) - before)
        if loaded.unexpected_keys:
            logger.warning("Weights of the adapter %s are not used: %s.", name, sorted(loaded.unexpected_keys)[:3])
        # load_adapter has stored in _weight_conversions how to rename the weights of the adapter. Restore the old
        # value, so that the weights of a merged model are not renamed.
        self._weight_conversions = conversions
        settings = None if peft_model_id is None else _read_settings(peft_model_id, location)
        if settings is None:
            logger.warning(
                "The adapter %s has no %s, so the entity types of the base model are used.", name, ADAPTER_SETTINGS
            )
            settings = self._settings_of_adapters[None]
        self._settings_of_adapters[name] = settings
        self._sources_of_adapters[name] = peft_model_id or ""
        self.set_adapter(name)  # transformers activates the new adapter, but not its heads
        return loaded if "load_config" in options else None

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Add a new adapter as in transformers."""
        self._remember_base()
        self._settings_of_adapters[adapter_name or "default"] = adapter_settings(self.config)
        super().add_adapter(adapter_config, adapter_name)  # type: ignore[misc]

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Activate an adapter as in transformers. `config` then has the entity types of the adapter."""
        super().set_adapter(adapter_name)  # type: ignore[misc]
        self._use_settings(adapter_name if isinstance(adapter_name, str) else adapter_name[0])

    def disable_adapters(self) -> None:
        """Use the base model without adapters. `config` then has the entity types of the base model."""
        super().disable_adapters()  # type: ignore[misc]
        self._use_settings(None)

    def enable_adapters(self) -> None:
        """Use the active adapter again. `config` then has the entity types of the adapter."""
        super().enable_adapters()  # type: ignore[misc]
        for module in self.modules():  # type: ignore[attr-defined]
            if has_adapter_state(module):  # transformers does not enable the heads
                module.enable_adapters(True)
        self._use_settings(active_adapter(self))

    def merge_and_unload(self) -> Any:
        """Merge the active adapter into the weights, remove all adapters, and return this model.

        The result is a complete model with the entity types of the adapter. It finds the same entities as before.
        """
        name = str(active_adapter(self))
        for module in list(self.modules()):  # type: ignore[attr-defined]
            for child_name, child in list(module.named_children()):
                if not has_adapter_state(child):
                    continue
                if hasattr(child, "get_base_layer"):
                    child.merge(safe_merge=True, adapter_names=[name])
                    setattr(module, child_name, child.get_base_layer())
                else:
                    trained = dict(child.modules_to_save.items())
                    setattr(module, child_name, trained.get(name, child.original_module))
        self._hf_peft_config_loaded = False
        self.__dict__.pop("peft_config", None)
        self._settings_of_adapters, self._sources_of_adapters = {}, {}
        self.name_or_path = self.config._name_or_path = ""  # the weights differ from the weights of the base model
        return self

    def _remember_base(self) -> None:
        if not self.has_adapters:
            self._settings_of_adapters = {None: adapter_settings(self.config)}
            self._sources_of_adapters = {}

    def _use_settings(self, name: str | None) -> None:
        settings = self._settings_of_adapters.get(name)
        if settings is None:
            return
        try:
            # Remove the thresholds and temperatures first, because they belong to the old entity types.
            for field in ("thresholds", "temperatures"):
                if hasattr(self.config, field):
                    setattr(self.config, field, None)
            for field, value in settings.items():
                setattr(self.config, field, value)
            self.config.validate_ranges()
        except Exception as error:  # transformers raises errors of several classes
            raise ValueError(f"{ADAPTER_SETTINGS} of the adapter {name!r} is invalid: {error}") from error


def _check_weights(name: str | os.PathLike[str], location: Mapping[str, Any]) -> None:
    """Raise `OSError` if an adapter is not found, or if it has no weights in the format safetensors."""
    try:
        cached_file(name, ADAPTER_WEIGHTS, **location)
    except (OSError, ValueError) as error:
        if os.path.exists(name):
            raise
        raise OSError(
            f"cannot load the adapter {str(name)!r}: there is no such folder, and loading from the Hub failed: "
            f"{' '.join(str(error).split())}"
        ) from error


@contextmanager
def _without_reports() -> Iterator[None]:
    """Silence two wrong warnings when a second adapter is loaded.

    transformers reports that weights of the first adapter are missing, and that the model already has an adapter.
    """
    reports = logging.get_logger("transformers.integrations.peft")
    level = reports.level
    reports.setLevel("ERROR")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config` attribute in the model")
            yield
    finally:
        reports.setLevel(level)


def _warn_about_missing(name: str, missing: Iterable[str]) -> None:
    """Warn about missing weights of an adapter. Other names in `missing` are ignored."""
    of_base = {"base_layer", "original_module"}
    own = sorted(key for key in missing if name in key.split(".") and not of_base.intersection(key.split(".")))
    if own:
        logger.warning(
            "The adapter %s has no weights for %d of its tensors, which get random values (first: %s).",
            name,
            len(own),
            own[0],
        )


def _location(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `load_adapter` that locate the files of the adapter, such as `revision` and `token`."""
    load_config = options.get("load_config")
    given = {**(getattr(load_config, "download_kwargs", None) or {}), **options}
    adapter = options.get("adapter_kwargs") or {}
    if load_config is not None:
        given.pop("revision", None)  # this is the revision of the base model, not of the adapter
    return {key: value for key, value in {**given, **adapter}.items() if key in _LOCATION and value is not None}


def _read_settings(name: str | os.PathLike[str], location: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings of an adapter, or None if it has no file with settings.

    Raises:
        ValueError: the file is malformed.
    """
    path = cached_file(name, ADAPTER_SETTINGS, **location, **_OPTIONAL_FILE)
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
        unknown = set(settings) - set(_FIELDS)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is malformed: {error}") from error
    if not isinstance(settings, dict) or unknown:
        raise ValueError(f"{path} must be a JSON object with the keys {', '.join(_FIELDS)}; unknown: {unknown}.")
    return settings
