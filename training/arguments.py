"""Recipes: YAML files of hyper-parameters, overridden on the command line."""

import difflib
import logging
import os
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from modeling_binder import BinderConfig
from modeling_binder.finetuning.corpus import Corpus, load_corpus, read_documents
from modeling_binder.finetuning.data import check_labels, read_types
from modeling_binder.machine import cpu_multiplies_bf16

logger = logging.getLogger("training.arguments")


@dataclass
class DataArguments:
    """Where the corpus is: a folder, or single files."""

    corpus: str | None = field(default=None, metadata={"help": "folder with train/dev/test files and types.json"})
    train_file: str | None = field(default=None, metadata={"help": "JSONL, or columns with IOB, IOB2 or BIOES tags"})
    dev_file: str | None = field(default=None, metadata={"help": "development set, picks the best checkpoint"})
    test_file: str | None = field(default=None, metadata={"help": "test set, evaluated once at the end"})
    types: str | None = field(
        default=None,
        metadata={
            "help": "JSON file name -> description (in a recipe, the mapping itself); instead of the corpus' own"
        },
    )

    def load(self) -> Corpus:
        """Read the corpus; raises DataError or ValueError with what is wrong and what to do."""
        if self.corpus is not None:
            corpus = load_corpus(expand(self.corpus))
            if self.types is None:
                return corpus
            types = dict(self.types) if isinstance(self.types, dict) else read_types(expand(self.types))
            for split in ("train", "dev", "test"):
                check_labels(getattr(corpus, split), types, f"{self.corpus}/{split}")
            return replace(corpus, entity_types=types)
        if self.train_file is None or self.types is None:
            raise ValueError("name the data: --corpus FOLDER, or --train_file FILE and --types FILE.")
        types = dict(self.types) if isinstance(self.types, dict) else read_types(expand(self.types))
        splits: dict[str, Any] = {}
        for split in ("train", "dev", "test"):
            file = getattr(self, f"{split}_file")
            splits[split] = read_documents(expand(file)) if file else []
            check_labels(splits[split], types, file or split)
        return Corpus(entity_types=types, **splits)


@dataclass
class ModelArguments:
    """The encoders, and the fields of `BinderConfig`."""

    encoder: str = field(default="minilm", metadata={"help": "id on the Hub, local folder, or 'minilm'"})
    type_encoder: str | None = field(default=None, metadata={"help": "of the descriptions; defaults to --encoder"})
    share_encoders: bool = field(default=False, metadata={"help": "read descriptions with the text encoder"})
    projection_size: int = 128
    projection_dropout: float = 0.1
    use_span_width_embedding: bool = True
    max_span_width: int = field(default=64, metadata={"help": "widest span that can be found, in tokens"})
    init_temperature: float = 0.07
    start_loss_weight: float = 0.2
    end_loss_weight: float = 0.2
    span_loss_weight: float = 0.6
    mention_loss_weight: float = 0.5
    threshold_loss_weight: float = 0.5
    type_pooling: str = field(
        default="cls", metadata={"help": "state of a type: of its [CLS], or the mean", "choices": ["cls", "mean"]}
    )
    decoding: str = field(default="nested", metadata={"help": "'nested' or 'flat'", "choices": ["nested", "flat"]})
    inference: str = field(default="span", metadata={"help": "'span' or 'joint'", "choices": ["span", "joint"]})
    max_length: int = field(default=256, metadata={"help": "tokens in a window of text"})
    stride: int = field(default=32, metadata={"help": "tokens that neighbouring windows share"})

    def config(self) -> dict[str, Any]:
        """The fields that are `BinderConfig`'s."""
        known = {field.name for field in fields(BinderConfig)}
        return {name: value for name, value in vars(self).items() if name in known}


@dataclass
class CardArguments:
    """What only you can tell of the model, for its card on the Hub."""

    language: str | None = field(default=None, metadata={"help": "of the corpus: a code such as 'en'"})
    license: str | None = field(default=None, metadata={"help": "of the model: a code such as 'apache-2.0'"})
    dataset_name: str | None = field(default=None, metadata={"help": "name of the corpus, for people"})
    dataset_id: str | None = field(default=None, metadata={"help": "id of the corpus on the Hub, if it is there"})
    examples: list[str] | None = field(
        default=None, metadata={"help": "texts that the card shows the model on; without any, sentences of our own"}
    )
    tags: list[str] | None = field(default=None, metadata={"help": "further tags on the Hub"})

    def card(self) -> dict[str, Any]:
        """For `BinderTrainer(card=...)`."""
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
    """transformers' own arguments, with the paper's settings as defaults."""

    output_dir: str | None = field(
        default="checkpoints/binder",
        metadata={"help": "folder for checkpoints and the final model (with a recipe: checkpoints/NAME OF THE RECIPE)"},
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
        default=None, metadata={"help": "stop after so many evaluations without a better development F1"}
    )
    bf16: bool = field(
        default=False, metadata={"help": "mixed precision, bfloat16; float32 on a CPU that does not multiply in it"}
    )
    restart: bool = field(default=False, metadata={"help": "ignore the checkpoints of an earlier run in output_dir"})
    push_to_hub: str | None = field(
        default=None,
        metadata={"help": "repository for the result: user/name (with --hub_private_repo, --hub_revision)"},
    )

    def __post_init__(self) -> None:
        # One push, of the evaluated model: Trainer itself, which would push while it trains, is told of none.
        if self.push_to_hub:
            self.hub_model_id, self.push_to_hub = str(self.push_to_hub), None
        if self.bf16 and not torch.cuda.is_available():
            self.use_cpu = True  # transformers asks to be told that bf16 on a CPU is meant
            if not cpu_multiplies_bf16():
                logger.warning("this CPU does not multiply in bfloat16: trained in float32, as with --bf16 false.")
                self.bf16 = False
        super().__post_init__()


def expand(path: str) -> str:
    """Replace $VARIABLES and ~ in a path.

    Raises:
        ValueError: a variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    if "$" in expanded:
        raise ValueError(f"{path} names an environment variable that is not set: export it, or override the path.")
    return expanded


class Recipe(NamedTuple):
    """The groups of arguments.

    `changed` is everything that was set, by name; `name` the recipe's file without folder and suffix, None without a
    recipe; `given` what the command line set to something else than the recipe.
    """

    data: DataArguments
    model: ModelArguments
    card: CardArguments
    training: BinderTrainingArguments
    changed: dict[str, Any]
    name: str | None
    given: dict[str, Any]


def parse_recipe(argv: list[str] | None = None) -> Recipe:
    """Read `RECIPE.yaml [--key value ...]`: the recipe's values become defaults, the command line overrides them.

    Raises:
        ValueError: the recipe is no mapping, or has a key that no argument has.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser(
        (DataArguments, ModelArguments, CardArguments, BinderTrainingArguments),
        prog="python -m training.finetune",
        description="Fine-tune BINDER from a recipe (YAML) and evaluate it.",
        usage="%(prog)s [RECIPE.yaml] [--key value ...]",
    )
    settings: dict[str, Any] = {}
    name: str | None = None
    if argv and not argv[0].startswith("-"):
        settings = read_recipe(Path(argv[0]), {action.dest for action in parser._actions})
        name = Path(argv[0]).stem
        settings.setdefault("output_dir", f"checkpoints/{name}")
        argv = argv[1:]
    parser.set_defaults(**settings)
    untouched, overrides = vars(parser.parse_args([])), vars(parser.parse_args(argv))
    given = {key: value for key, value in overrides.items() if value != untouched[key]}
    changed = {key: value for key, value in overrides.items() if key in settings or key in given}
    data, model, card, training = parser.parse_dict(overrides)
    return Recipe(data, model, card, training, changed, name, given)


def read_recipe(path: Path, known: set[str]) -> dict[str, Any]:
    """A recipe as a dictionary, without `results`, which tells what the recipe gave.

    Raises:
        ValueError: the file is missing, no mapping, or has a key that is not among the known ones.
    """
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; recipes are in training/recipes.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} must hold 'key: value' lines, got {type(recipe).__name__}.")
    recipe.pop("results", None)
    for name in recipe:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{path}: there is no setting {name!r}.{hint} See python -m training.finetune --help.")
    return recipe


def recipe_types(name: str) -> dict[str, str]:
    """The type descriptions of a benchmark: those of its recipe."""
    recipe = yaml.safe_load((Path(__file__).parent / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    return dict(recipe["types"])
