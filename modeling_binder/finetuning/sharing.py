"""The part of the trainer that writes model cards and pushes models to the Hub."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from ..adapters_binder import ADAPTER_CONFIG, active_adapter, check_folder, save_adapter_settings, unwrapped
from ..hub import check_access, prepare_model, push_model_folder, write_card
from ..pretrained_binder import set_permissions


class SharingTrainer(Trainer):
    """A `Trainer` that pushes the model with all necessary files in one commit, without pickle files.

    See `modeling_binder.hub` for the files.

    Args:
        card: values for the model card that the trainer cannot determine: `language`, `license`, `base_model`,
            `dataset`, `examples`, `tags`.
        kwargs: passed to `Trainer`.

    Raises:
        ValueError: `hub_strategy` would upload optimizer states.
    """

    push_in_progress: PushInProgress | None

    def __init__(self, *, args: TrainingArguments, card: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if args.push_to_hub and args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"hub_strategy={args.hub_strategy.value!r} would upload optimizer states, which are pickle files; "
                "use hub_strategy='end' or 'every_save'."
            )
        self.card = {key: value for key, value in (card or {}).items() if value}
        self.tags: list[str] = list(self.card.pop("tags", ()))
        super().__init__(args=args, **kwargs)

    def facts(self) -> dict[str, Any]:
        """Return facts about the training for the model card: data, hyper-parameters, results and versions."""
        raise NotImplementedError

    def score_for_card(self) -> None:
        """Evaluate the current weights, unless they were already evaluated, so that the model card has results."""
        raise NotImplementedError

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Check, before training starts, that the access token may push. The repository is created later."""
        if not self.is_world_process_zero():
            return
        self.hub_model_id = self._check_access(token)
        self.push_in_progress = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model and the tokenizer.

        `Trainer` calls this method for checkpoints. If a user calls it, the method also writes the model card. If
        `args.push_to_hub` is set, it then also pushes the model.
        """
        super().save_model(output_dir, _internal_call=True)
        if not _internal_call:
            self.create_model_card(output_dir=output_dir)
            if self.args.push_to_hub:
                self.push_to_hub(commit_message="Model save")

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save as `Trainer` does. For adapters, also save the settings, and delete the model card of PEFT."""
        folder = Path(output_dir or str(self.args.output_dir))
        model: Any = self.accelerator.unwrap_model(self.model)
        has_adapters = model is not unwrapped(model)
        if has_adapters:
            check_folder(folder, adapter=True)
        super()._save(output_dir, state_dict)
        if has_adapters and self.args.should_save:
            active = active_adapter(model)  # PEFT uses a subfolder if the name of the adapter is not "default"
            adapter = folder if active == "default" else folder / str(active)
            save_adapter_settings(model.config, adapter)
            set_permissions(adapter, ADAPTER_CONFIG)
            (folder / "README.md").unlink(missing_ok=True)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        dataset_tags: str | None = None,
        dataset: str | None = None,
        examples: list[str] | None = None,
        output_dir: str | None = None,
    ) -> None:
        """Write the model card README.md, and the facts in the card as model_card.json.

        Args:
            language, license: codes of the language and of the license on the Hub ("en", "mit").
            tags: additional tags.
            model_name: id of the model on the Hub ("user/name"), for the example code of the card.
            finetuned_from: id of the encoder on the Hub.
            dataset, dataset_tags: name of the corpus, and its id on the Hub.
            examples: texts for which the card shows predictions.
            output_dir: folder to write to. Defaults to the output folder of the trainer.
        """
        stated: dict[str, Any] = {
            "language": language,
            "license": license,
            "base_model": finetuned_from,
            "examples": examples,
            "dataset": {"name": dataset, "id": dataset_tags} if dataset or dataset_tags else None,
            "tags": [tags] if isinstance(tags, str) else tags,
        }
        self.tags = stated.pop("tags") or self.tags
        self.card |= {key: value for key, value in stated.items() if value}
        if not self.is_world_process_zero():
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        name = model_name or self.hub_model_id or self.args.hub_model_id or f"your-name/{folder.absolute().name}"
        model = self.accelerator.unwrap_model(self.model)
        write_card(model, self.processing_class, folder, name, self.facts(), self.tags)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        create_pr: bool = False,
        **card: Any,
    ) -> Any:
        """Push the model with its tokenizer, code, model card and inference handler in one commit.

        The id of the repository is `args.hub_model_id`. It defaults to the name of the output folder. If the current
        weights were not evaluated, the method first evaluates them on the development set, so that the card has
        results.

        Args:
            commit_message, revision, private, create_pr: see `hub.push_model`.
            blocking: whether to wait for the push. If False, the method pushes in the background and returns a
                `Future`.
            token: access token. Defaults to `args.hub_token`, the variable HF_TOKEN, or the token of `hf auth login`.
            card: arguments of `create_model_card`.

        Raises:
            PushError: the push failed, and nothing on the Hub was changed. The message contains the reason and the
                solution.
        """
        self.score_for_card()
        if self.is_world_process_zero():
            self.hub_model_id = self._check_access(token, write=not create_pr)
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        self.create_model_card(**card)
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        folder = self._prepared()
        return self._commit(folder, commit_message, blocking, token, revision, private, create_pr)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push the current model in the background. `Trainer` calls this method after it saves a checkpoint."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        jobs = [] if self.push_in_progress is None or self.push_in_progress.is_done() else self.push_in_progress.jobs
        if jobs and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        job = self._commit(self._prepared(), f"Training in progress, step {self.state.global_step}", blocking=False)
        self.push_in_progress = PushInProgress([*jobs, job])

    def _check_access(self, token: str | None, write: bool = True) -> str:
        name = self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name
        return check_access(name, token or self.args.hub_token, write)

    def _prepared(self) -> tempfile.TemporaryDirectory[str]:
        """Write the files to push into a temporary folder, so that training can continue during the push."""
        folder = tempfile.TemporaryDirectory()
        prepare_model(
            self.accelerator.unwrap_model(self.model),
            folder.name,
            self.hub_model_id,
            tokenizer=self.processing_class,
            facts=self.facts(),
            tags=self.tags,
        )
        return folder

    def _commit(
        self,
        folder: tempfile.TemporaryDirectory[str],
        commit_message: str | None,
        blocking: bool,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        create_pr: bool = False,
    ) -> Any:
        api = HfApi(token=token or self.args.hub_token)

        def commit() -> Any:
            with folder:
                return push_model_folder(
                    folder.name,
                    self.hub_model_id,
                    api=api,
                    private=self.args.hub_private_repo if private is None else private,
                    revision=revision or self.args.hub_revision,
                    create_pr=create_pr,
                    commit_message=commit_message or "End of training",
                )

        return commit() if blocking else api.run_as_future(commit)
