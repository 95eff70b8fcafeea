"""Read recipes: YAML files of hyper-parameters, which the command line can override."""

import difflib
import json
import logging
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available

from modeling_binder import BinderConfig
from modeling_binder.finetuning.corpus import Corpus, load_corpus, read_documents
from modeling_binder.finetuning.data import EntityType, check_labels, parse_entity_types, read_entity_types
from modeling_binder.finetuning.splits import SPLIT_NAMES
from modeling_binder.machine import cpu_multiplies_bf16
from training.lora import LoraArguments
from training.start import CHANGEABLE, StartArguments

logger = logging.getLogger("training.arguments")


@dataclass
class DataArguments:
    """Arguments for the corpus: a folder, or single files."""

    corpus: str | None = field(default=None, metadata={"help": "folder with train/dev/test files and types.json"})
    train_file: str | None = field(
        default=None, metadata={"help": "training set: JSONL or another format; replaces the one of the corpus"}
    )
    dev_file: str | None = field(default=None, metadata={"help": "development set, which chooses the best checkpoint"})
    test_file: str | None = field(default=None, metadata={"help": "test set, evaluated once at the end"})
    types: str | None = field(
        default=None,
        metadata={
            "help": "JSON file that maps names of types to descriptions; overrides the types of the corpus. A recipe "
            "can contain the mapping itself"
        },
    )

    def load(self) -> Corpus:
        """Read the corpus.

        Raises:
            DataError: a file is missing or malformed, or a label has no description.
            ValueError: neither a corpus folder nor a training file with types is given.
        """
        if self.corpus is not None:
            corpus = load_corpus(expand(self.corpus))
            files = {split: file for split in SPLIT_NAMES if (file := getattr(self, f"{split}_file"))}
            documents: dict[str, Any] = {split: read_documents(expand(file)) for split, file in files.items()}
            corpus = replace(corpus, **documents)
            if self.types is None:
                for split, file in files.items():
                    check_labels(documents[split], corpus.entity_types, file)
                return corpus
            types = self._types(self.types)
            for split in SPLIT_NAMES:
                check_labels(getattr(corpus, split), (each.name for each in types), f"{self.corpus}/{split}")
            return replace(corpus, entity_types={each.name: each.description for each in types}, types=tuple(types))
        if self.train_file is None or self.types is None:
            raise ValueError("no data: pass --corpus FOLDER, or --train_file FILE and --types FILE.")
        types = self._types(self.types)
        splits: dict[str, Any] = {}
        for split in SPLIT_NAMES:
            file = getattr(self, f"{split}_file")
            splits[split] = read_documents(expand(file)) if file else []
            check_labels(splits[split], (each.name for each in types), file or split)
        return Corpus(entity_types={each.name: each.description for each in types}, types=tuple(types), **splits)

    @staticmethod
    def _types(types: str | Mapping[str, Any]) -> list[EntityType]:
        """Read types from the mapping in a recipe, or from a file."""
        return parse_entity_types(types, "types") if isinstance(types, Mapping) else read_entity_types(expand(types))


@dataclass
class ModelArguments:
    """Arguments for the encoders, and fields of `BinderConfig`."""

    encoder: str = field(
        default="minilm",
        metadata={
            "help": "id on the Hub, local folder, or 'minilm' (small) or 'mpnet' (base size) from Python packages"
        },
    )
    type_encoder: str | None = field(
        default=None, metadata={"help": "encoder of the type descriptions; defaults to --encoder"}
    )
    share_encoders: bool = field(default=False, metadata={"help": "use one encoder for texts and descriptions"})
    projection_size: int = field(
        default=128, metadata={"help": "dimensions of the space in which spans and types are compared"}
    )
    projection_dropout: float = field(default=0.1, metadata={"help": "dropout on the projected vectors"})
    use_span_width_embedding: bool = field(
        default=True, metadata={"help": "add a learned vector for the width of a span"}
    )
    max_span_width: int = field(default=64, metadata={"help": "longest span that can be found, in tokens"})
    init_temperature: float = field(
        default=0.07, metadata={"help": "initial temperature: a score is cosine similarity / temperature"}
    )
    start_loss_weight: float = field(default=0.2, metadata={"help": "weight of the start head in the loss"})
    end_loss_weight: float = field(default=0.2, metadata={"help": "weight of the end head in the loss"})
    span_loss_weight: float = field(default=0.6, metadata={"help": "weight of the span head in the loss"})
    mention_loss_weight: float = field(
        default=0.5, metadata={"help": "weight of the mention loss, which ranks mentions above [CLS] and other spans"}
    )
    threshold_loss_weight: float = field(
        default=0.5,
        metadata={"help": "weight of the threshold loss, which ranks [CLS] above spans that are not mentions"},
    )
    type_pooling: str = field(
        default="cls",
        metadata={
            "help": "the vector of a description: 'cls' is the state of [CLS], 'mean' the mean over its tokens",
            "choices": ["cls", "mean"],
        },
    )
    decoding: str = field(
        default="nested",
        metadata={
            "help": "'nested' returns all entities, 'flat' only entities that do not overlap",
            "choices": ["nested", "flat"],
        },
    )
    inference: str = field(
        default="span",
        metadata={
            "help": "'span' uses only the scores of spans, 'joint' also the scores of starts and ends",
            "choices": ["span", "joint"],
        },
    )
    max_length: int = field(default=256, metadata={"help": "maximum number of tokens in a window"})
    stride: int = field(default=32, metadata={"help": "number of tokens that neighbouring windows share"})

    def config(self) -> dict[str, Any]:
        """Return the fields of `BinderConfig`."""
        known = {field.name for field in fields(BinderConfig)}
        return {name: value for name, value in vars(self).items() if name in known}


@dataclass
class CardArguments:
    """Arguments for facts in the model card that the training cannot determine."""

    language: str | None = field(default=None, metadata={"help": "language of the corpus: a code such as 'en'"})
    license: str | None = field(default=None, metadata={"help": "license of the model: a code such as 'apache-2.0'"})
    dataset_name: str | None = field(default=None, metadata={"help": "name of the corpus in the card"})
    dataset_id: str | None = field(default=None, metadata={"help": "id of the corpus on the Hub"})
    examples: list[str] | None = field(
        default=None, metadata={"help": "example texts for the card; defaults to example sentences of this project"}
    )
    tags: list[str] | None = field(default=None, metadata={"help": "additional tags on the Hub"})

    def card(self) -> dict[str, Any]:
        """Return the argument `card` of `BinderTrainer`."""
        dataset = {"name": self.dataset_name, "id": self.dataset_id}
        return {
            "language": self.language,
            "license": self.license,
            "dataset": dataset if any(dataset.values()) else None,
            "examples": self.examples,
            "tags": self.tags,
        }


@dataclass
class BinderTrainingArguments(TrainingArguments):
    """The training arguments of transformers, with the settings of the paper as defaults."""

    output_dir: str | None = field(
        default="checkpoints/binder",
        metadata={
            "help": "folder for checkpoints and the final model; default with recipe NAME.yaml: checkpoints/NAME"
        },
    )
    learning_rate: float = 3e-5
    num_train_epochs: float = 20
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 32
    warmup_steps: float = 0.1
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 1
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "f1"
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "stop after this many evaluations without a higher development F1"}
    )
    learning_rates: Mapping[str, float] | str | None = field(
        default=None,
        metadata={
            "help": "learning rates of parts of the model, which replace --learning_rate; on the command line as JSON: "
            "'{\"heads\": 4e-4}'"
        },
    )
    bf16: bool = field(
        default=False,
        metadata={"help": "train in mixed precision (bfloat16); ignored on a device that does not support it"},
    )
    restart: bool = field(default=False, metadata={"help": "ignore checkpoints of an earlier training in output_dir"})
    push_to_hub: str | None = field(
        default=None,
        metadata={"help": "repository to push the result to: user/name (see --hub_private_repo, --hub_revision)"},
    )

    def __post_init__(self) -> None:
        if isinstance(self.learning_rates, str):
            self.learning_rates = from_json("learning_rates", self.learning_rates)
        # `finetune` pushes once, after the evaluation. So Trainer must not push during training.
        if self.push_to_hub:
            self.hub_model_id, self.push_to_hub = str(self.push_to_hub), None
        if self.bf16 and not is_torch_bf16_gpu_available():
            asked_for_cpu: bool = getattr(self, "use_cpu", False)
            has_device = torch.accelerator.is_available() and not asked_for_cpu
            self.use_cpu = not has_device  # transformers allows bf16 on a CPU only with use_cpu
            if has_device or not cpu_multiplies_bf16():
                place = (
                    "this device does not support bfloat16" if has_device else "this CPU has no bfloat16 instructions"
                )
                logger.warning("%s: training in float32, as with --bf16 false.", place)
                self.bf16 = False
        super().__post_init__()


def from_json(key: str, text: str) -> Any:
    """Parse an argument that is passed as JSON on the command line. Raise ValueError if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"--{key} must be JSON, as in the recipe, got {text!r:.60}.") from None


def expand(path: str) -> str:
    """Replace $VARIABLES and ~ in a path.

    Raises:
        ValueError: a variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    if "$" in expanded:
        raise ValueError(f"{path}: an environment variable in this path is not set; export it, or pass another path.")
    return expanded


class Recipe(NamedTuple):
    """A parsed recipe.

    Args:
        data, model, card, training, start, lora: the groups of arguments.
        changed: name -> value of each setting in the recipe or on the command line, even if the value is the default.
        name: file name of the recipe, without folder and suffix. None means that there is no recipe.
        given: the settings on the command line that differ from the recipe. A setting that is not in the recipe is
            compared with its default.
    """

    data: DataArguments
    model: ModelArguments
    card: CardArguments
    training: BinderTrainingArguments
    changed: dict[str, Any]
    name: str | None
    given: dict[str, Any]
    start: StartArguments
    lora: LoraArguments

    def settings(self) -> dict[str, Any]:
        """Return all settings that affect the trained model, without the settings for the Hub and the model card."""
        sharing = {field.name for field in fields(CardArguments)} | {"push_to_hub"}
        start = asdict(self.start) if self.start.init_from else {}
        lora = asdict(self.lora) if self.lora.lora_r else {}
        settings = {**asdict(self.data), **asdict(self.model), **start, **lora, **self.changed}
        return {name: value for name, value in settings.items() if name not in sharing and not name.startswith("hub_")}


def parse_recipe(argv: list[str] | None = None) -> Recipe:
    """Parse `RECIPE.yaml [--key value ...]`. The command line overrides the values of the recipe.

    Raises:
        ValueError: the recipe is missing or malformed, or has an unknown key.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser(
        (DataArguments, ModelArguments, StartArguments, LoraArguments, CardArguments, BinderTrainingArguments),
        prog="python -m training.finetune",
        description="Fine-tune BINDER from a recipe (YAML) and evaluate it.",
        usage="%(prog)s [RECIPE.yaml] [--key value ...]",
    )
    settings: dict[str, Any] = {}
    name: str | None = None
    if argv and not argv[0].startswith("-"):
        settings = read_recipe(Path(argv[0]), {action.dest for action in parser._actions})
        name = Path(argv[0]).stem
        _check_values(settings, parser, argv[0])
        settings.setdefault("output_dir", f"checkpoints/{name}")
        argv = argv[1:]
    parser.set_defaults(**settings)
    untouched, overrides = vars(parser.parse_args([])), vars(parser.parse_args(argv))
    given = {key: value for key, value in overrides.items() if value != untouched[key]}
    # Include settings of the command line even if their value is the default. The checkpoint to start from may have
    # another value.
    options = {argument.split("=")[0] for argument in argv}
    named = {action.dest for action in parser._actions if options.intersection(action.option_strings)}
    changed = {key: value for key, value in overrides.items() if key in settings or key in named}
    data, model, start, lora, card, training = parser.parse_dict(overrides)
    start.config = {key: value for key, value in changed.items() if key in CHANGEABLE}
    if start.init_from:
        _check_effect(changed, named, start.init_from)
    return Recipe(data, model, card, training, changed, name, given, start, lora)


def _check_values(settings: Mapping[str, Any], parser: HfArgumentParser, path: str) -> None:
    """Check the types of the values of a recipe, because dataclasses do not check them.

    Raises:
        ValueError: a value is missing, is not a list or a whole number, or is not one of the choices.
    """
    for action in parser._actions:
        if action.dest not in settings:
            continue
        value, where = settings[action.dest], f"{path}: {action.dest}"
        if value is None and action.default is not None:
            raise ValueError(f"{where} has no value; write a value, or remove the line.")
        # transformers also accepts a string as `debug`.
        if action.nargs == "+" and action.dest != "debug" and not isinstance(value, (list, type(None))):
            raise ValueError(f"{where} must be a list, got {value!r:.60}; write [{value!s:.60}].")
        if action.type is int and isinstance(value, float):
            raise ValueError(f"{where} must be a whole number, got {value!r}.")
        if action.choices and value not in (*action.choices, None):
            raise ValueError(f"{where} must be one of {', '.join(map(str, action.choices))}, got {value!r:.60}.")


def _check_effect(changed: Mapping[str, Any], named: Collection[str], checkpoint: str) -> None:
    """Check that no setting is given which the checkpoint determines. Warn about such settings of the recipe.

    Raises:
        ValueError: such a setting is on the command line.
    """
    fixed = [field.name for field in fields(ModelArguments) if field.name in changed and field.name not in CHANGEABLE]
    given = [name for name in fixed if name in named]
    if given:
        raise ValueError(f"--{given[0]} has no effect, because {checkpoint} determines it; leave it out.")
    if fixed:
        logger.warning("these settings of the recipe have no effect with --init_from: %s.", ", ".join(fixed))


def read_recipe(path: Path, known: set[str] | None = None, inheriting: Sequence[Path] = ()) -> dict[str, Any]:
    """Read a recipe as a dictionary, including inherited keys.

    The value of the key `inherit` is the path of a base recipe, relative to the folder of this recipe. The recipe
    inherits all keys of the base recipe. Its own keys override inherited keys. Lists and mappings are not merged.

    Args:
        path: file of the recipe.
        known: the keys that a recipe may have. None means any key.
        inheriting: files of the recipes that inherit from this recipe.

    Raises:
        ValueError: a file is missing, is not a YAML mapping or has an unknown key, or a recipe inherits from itself.
    """
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        heir = f"{inheriting[-1]}: the recipe in 'inherit' is missing: " if inheriting else ""
        raise ValueError(f"{heir}{path} does not exist; the recipes of this project are in training/recipes.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: expected lines 'key: value', got {type(recipe).__name__}.")
    base = recipe.pop("inherit", None)
    for name in recipe:
        if known is not None and name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{path}: unknown setting {name!r}.{hint} See python -m training.finetune --help.")
    if base is None:
        return recipe
    if not isinstance(base, str):
        raise ValueError(f"{path}: 'inherit' must be the path of a recipe, got {base!r}.")
    inheriting, parent = [*inheriting, path], path.parent / base
    if parent.resolve() in [heir.resolve() for heir in inheriting]:
        raise ValueError(f"{path}: 'inherit' leads back to {parent}.")
    return {**read_recipe(parent, known, inheriting), **recipe}


def recipe_types(name: str) -> dict[str, str]:
    """Return the descriptions of the entity types in the recipe of a benchmark."""
    return dict(read_recipe(Path(__file__).parent / "recipes" / f"{name}.yaml")["types"])
