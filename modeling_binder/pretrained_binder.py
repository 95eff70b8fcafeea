"""Base class of `BinderModel` for transformers: initialisation, loading, saving and pushing."""

import contextlib
import math
import os
import shutil
import stat
import warnings
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import cached_file, logging

from .adapters_binder import ADAPTER_CONFIG, AdapterMixin, base_of_adapter, check_folder, save_adapter_settings
from .configuration_binder import BinderConfig
from .exported_binder import ExportedEncoder
from .heads_binder import Head
from .tokenizers_binder import TYPE_TOKENIZER_FOLDER, check_type_tokenizer, load_type_tokenizer

logger = logging.get_logger(__name__)

# Arguments of from_pretrained that locate a file
_LOCATION_ARGUMENTS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
)


class BinderPreTrainedModel(AdapterMixin, PreTrainedModel):
    """Base class of `BinderModel`: initialises, loads, saves and pushes a model, and handles its adapters."""

    config: BinderConfig
    config_class = BinderConfig
    base_model_prefix = "binder"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # so that Trainer divides the loss by the number of accumulation steps
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _type_tokenizer: Any = None
    _no_split_modules: list[str] = ["PositionHead", "SpanHead"]
    _keep_in_fp32_modules_strict: list[str] = [
        "start_head",
        "end_head",
        "span_head",
        "breadth",
    ]  # norms in these modules and the softmax of the loss need float32
    _keys_to_ignore_on_load_unexpected: list[str] = [
        r"^breadth\."
    ]  # a checkpoint may have these weights although use_breadth is false
    _keys_to_ignore_on_load_missing: list[str] = [r"^(text|type)_encoder\.digest$"]  # older exports have no digest

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Head):
            init.constant_(module.scale, math.log(1 / self.config.init_temperature))
        elif isinstance(module, ExportedEncoder):
            init.zeros_(module.digest)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint like `PreTrainedModel.from_pretrained`, but only from safetensors, never from a pickle.

        If the checkpoint is an adapter of PEFT, the base model and the adapter are loaded.

        Raises:
            ValueError: `use_safetensors=False` was passed, or peft or the base model of an adapter is missing, or the
                files of an exported encoder belong to other weights.
            OSError: the repository or folder has no safetensors.
        """
        if kwargs.setdefault("use_safetensors", True) is False:
            raise ValueError(
                "BINDER checkpoints are loaded only from safetensors, because a pickle can run code: leave out "
                "use_safetensors=False. `python -m training.convert_reference` converts released checkpoints."
            )
        kwargs["use_safetensors"] = True
        if os.path.isdir(pretrained_model_name_or_path or ""):
            base_of_adapter(pretrained_model_name_or_path)  # raises without peft; transformers would ignore the adapter
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.breadth is not None:
            model.breadth.requires_grad_(False)  # again, because from_pretrained makes all weights trainable
        location = {name: kwargs[name] for name in _LOCATION_ARGUMENTS if name in kwargs}
        source = pretrained_model_name_or_path
        if model.has_adapters:  # ONNX files and the type tokenizer are in the repository of the base model
            source = model.config._name_or_path
            location.pop("revision", None)
        commit = getattr(model.config, "_commit_hash", None)
        if commit is not None:
            location["revision"] = commit  # load all files from the same commit
        for encoder in model.exported_encoders():
            encoder.load([cached_file(source, file, **location) for file in encoder.files])
        if model.config.type_tokenizer and source is not None:
            model.type_tokenizer = load_type_tokenizer(source, **location)
        return loaded

    @property
    def type_tokenizer(self) -> Any:
        """The tokenizer of descriptions, or None if it is the same as the tokenizer of texts.

        It is loaded and saved with the model, in the folder `type_tokenizer/` of the checkpoint.

        Raises:
            ValueError: the separate tokenizer of the checkpoint was not loaded, or the new tokenizer cannot be used.
        """
        if self._type_tokenizer is None and self.config.type_tokenizer:
            raise ValueError(
                "config.type_tokenizer is true, but the tokenizer of the entity types is not loaded. Load the "
                "checkpoint with from_pretrained, or set model.type_tokenizer = AutoTokenizer.from_pretrained(...)."
            )
        return self._type_tokenizer

    @type_tokenizer.setter
    def type_tokenizer(self, tokenizer: Any) -> None:
        if tokenizer is not None:
            if self.config.share_encoders:
                raise ValueError("with share_encoders=True there is only one encoder, so type_tokenizer must be None.")
            check_type_tokenizer(tokenizer, self.config.type_pooling)
        self._type_tokenizer = tokenizer
        self.config.type_tokenizer = tokenizer is not None

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint like `PreTrainedModel.save_pretrained`, with exported encoders and the type tokenizer.

        If the model has adapters, only the active adapter is saved, with its entity types. To save a complete model,
        call `merge_and_unload` first.

        Raises:
            ValueError: the folder contains a complete model and an adapter is saved, or the other way round.
        """
        check_folder(save_directory, adapter=self.has_adapters)
        if self.has_adapters:
            self.is_remote_code = lambda: False  # the code is in the repository of the base model
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            self.__dict__.pop("is_remote_code", None)
        if args[0] if args else kwargs.get("is_main_process", True):
            self._complete_checkpoint(save_directory)

    def _upload_modified_files(self, working_dir: Any, *args: Any, **kwargs: Any) -> Any:
        # PreTrainedModel.save_pretrained(push_to_hub=True) calls this method, so the folder must be complete here.
        self._complete_checkpoint(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _complete_checkpoint(self, folder: Any) -> None:
        """Add exported encoders and the type tokenizer to a saved checkpoint, and set the permissions of its files.

        If the model has adapters, only the settings of the active adapter are written.
        """
        if self.has_adapters:
            save_adapter_settings(self.config, folder)
            set_permissions(folder, ADAPTER_CONFIG)
            return
        for path in (path for encoder in self.exported_encoders() for path in encoder.paths):
            target = os.path.join(folder, os.path.basename(path))
            if os.path.exists(target) and os.path.samefile(path, target):
                os.utime(target)  # set a new modification time, because transformers uploads only modified files
            else:
                shutil.copyfile(path, target)
        if self.type_tokenizer is not None:
            target = os.path.join(folder, TYPE_TOKENIZER_FOLDER)
            self.type_tokenizer.save_pretrained(target)
            os.utime(target)
        set_permissions(folder, "config.json")

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Push the checkpoint with its tokenizer, code, card and handler in one commit.

        Args:
            repo_id: "user/name", or "name" in your own namespace.
            options: `tokenizer`, `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`,
                `tags`, `max_shard_size`; see `modeling_binder.hub.push_model`.

        Raises:
            PushError: the push failed, and nothing was changed on the Hub.
        """
        try:
            from modeling_binder.hub import push_model
        except ImportError:
            logger.warning("The package binder-ner is not installed: the model is pushed without card and handler.")
            options.pop("tokenizer", None)
            return super().push_to_hub(repo_id, **options)
        return push_model(self, repo_id, **options)

    def get_input_embeddings(self) -> Any:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.text_encoder.set_input_embeddings(value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Resize the token embeddings of the text encoder, and of the type encoder if it has no separate tokenizer.

        For the arguments, see `PreTrainedModel.resize_token_embeddings`.

        Returns:
            The embeddings of the text encoder.

        Raises:
            ValueError: an encoder runs in another runtime.
        """
        if self.exported_encoders():
            raise ValueError(
                f"the encoders of this checkpoint run in {self.backend}, so their token embeddings cannot be resized: "
                "resize the embeddings of the original checkpoint, and export it again."
            )
        for name in ("text",) if self.config.type_tokenizer else ("text", "type"):
            encoder = getattr(self, f"{name}_encoder")
            if encoder is not None:
                resized = encoder.resize_token_embeddings(new_num_tokens, *args, **kwargs)
                getattr(self.config, f"{name}_config").vocab_size = resized.num_embeddings
        return self.get_input_embeddings()

    def exported_encoders(self) -> list[ExportedEncoder]:
        """Return the encoders that run in another runtime."""
        return [module for module in self.modules() if isinstance(module, ExportedEncoder)]

    def onnx_encoders(self) -> list[ExportedEncoder]:
        """Return the encoders that are ONNX files. Deprecated, see `exported_encoders`."""
        warnings.warn("onnx_encoders() is now exported_encoders().", FutureWarning, stacklevel=2)
        return [encoder for encoder in self.exported_encoders() if encoder.backend == "onnx"]

    @property
    def backend(self) -> str:
        """The library that runs the encoders: "torch", "onnx" or "openvino"."""
        return next((encoder.backend for encoder in self.exported_encoders()), "torch")


def set_permissions(folder: str | os.PathLike[str], config_file: str) -> None:
    """Give the files of a checkpoint or of an adapter the permissions of its configuration file.

    This is needed because safetensors writes files that only the owner can read, for any umask.

    Args:
        folder: the folder of the checkpoint or the adapter.
        config_file: name of the configuration file in this folder.
    """
    mode = stat.S_IMODE(os.stat(os.path.join(folder, config_file)).st_mode)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        belongs = name.endswith((".safetensors", ".onnx", ".xml", ".bin", ".py"))
        if belongs and stat.S_IMODE(os.stat(path).st_mode) != mode:
            with contextlib.suppress(OSError):  # raised for files of another owner
                os.chmod(path, mode)
