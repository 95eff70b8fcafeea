"""The ten benchmarks of the paper: the files and the expected number of mentions of each split."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modeling_binder.finetuning import DataError
from modeling_binder.finetuning.files import read_lines
from modeling_binder.finetuning.formats import read_brat, read_iob, read_pubtator, read_token_spans
from modeling_binder.finetuning.formats.folders import Splits
from training.corpora import ace, genia_xml

_IOB = {"train": ("train",), "dev": ("devel", "dev", "valid"), "test": ("test",)}
_SUFFIXES = (".tsv", ".txt", ".iob", ".iob2", ".conll", ".bio")


@dataclass(frozen=True)
class Format:
    """A file format in which a benchmark is distributed.

    Args:
        name: name of the format, for messages.
        files: patterns of file names. A folder in this format has a file for each pattern.
        read: the function that reads the splits of a folder.
        mentions: split -> type -> the number of mentions in the literature, or in the README of the data. The type ""
            means all types together.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[Path, "Options"], Splits]
    mentions: Mapping[str, Mapping[str, int]]

    def fits(self, folder: Path) -> bool:
        """Return whether a folder has the files of this format."""
        return all(next(folder.glob(pattern), None) is not None for pattern in self.files)


@dataclass(frozen=True)
class Options:
    """Options that only some benchmarks have.

    Args:
        context: only for CoNLL 2003. "sentence" makes a document of each sentence, and "document" of each news story.
        span: only for ACE. "extent" means the full extent of a mention, and "head" means its head.
        splits: only for ACE. Folder with train.txt, dev.txt and test.txt, which have the id of a document on each line.
    """

    context: str = "sentence"
    span: str = "extent"
    splits: Path | None = None


def _one(folder: Path, names: Sequence[str], suffixes: Sequence[str] = _SUFFIXES) -> Path:
    for name in names:
        for suffix in suffixes:
            if (folder / f"{name}{suffix}").exists():
                return folder / f"{name}{suffix}"
    raise DataError(f"{folder}: there is no file {' or '.join(names)} with the suffix {' or '.join(suffixes)}.")


def _iob(label: str | None = None) -> Callable[[Path, Options], Splits]:
    def read(folder: Path, options: Options) -> Splits:
        return {split: read_iob(_one(folder, names), label) for split, names in _IOB.items()}

    return read


def _conll2003(folder: Path, options: Options) -> Splits:
    files = {"train": "eng.train", "dev": "eng.testa", "test": "eng.testb"}
    return {split: read_iob(folder / name, context=options.context) for split, name in files.items()}


def _ncbi_pubtator(folder: Path, options: Options) -> Splits:
    types = dict.fromkeys(("SpecificDisease", "DiseaseClass", "CompositeMention", "Modifier"), "Disease")
    names = {"train": "train", "dev": "develop", "test": "test"}
    files = {split: folder / f"NCBI{name}set_corpus.txt" for split, name in names.items()}
    # One mention of the training set has a wrong offset, so repair offsets.
    return {split: read_pubtator(path, types, repair_within=20) for split, path in files.items()}


def _bc5_pubtator(*labels: str) -> Callable[[Path, Options], Splits]:
    def read(folder: Path, options: Options) -> Splits:
        names = {"train": "Training", "dev": "Development", "test": "Test"}
        types = {label: label for label in labels}
        splits = {s: read_pubtator(folder / f"CDR_{name}Set.PubTator.txt", types) for s, name in names.items()}
        # Some copies of the training file also contain the development set. So remove it.
        held_out = {document.id for document in splits["dev"]}
        return {**splits, "train": [document for document in splits["train"] if document.id not in held_out]}

    return read


def _jnlpba(folder: Path, options: Options) -> Splits:
    source = folder / "standoff.tar.gz" if (folder / "standoff.tar.gz").exists() else folder
    documents = read_brat(source)
    held_out = set(" ".join(read_lines(folder / "dev_ids.txt", "ids of documents")).split())
    splits: Splits = {"train": [], "dev": [], "test": []}
    for path, document in documents.items():
        split = PurePosixPath(path).parent.name
        if split not in ("train", "test"):
            raise DataError(f"{source}: {path} is neither in the folder train nor in the folder test.")
        name = PurePosixPath(path).name
        splits["dev" if split == "train" and name in held_out else split].append(document)
    return splits


def _genia_xml(folder: Path, options: Options) -> Splits:
    # The usual split in order: 81% of the sentences for training, 9% for development, and 10% for testing
    sentences = genia_xml.read_genia_xml(next(folder.glob("GENIAcorpus3.0*.xml")))
    first, second = math.ceil(0.81 * len(sentences)), math.ceil(0.9 * len(sentences))
    return {"train": sentences[:first], "dev": sentences[first:second], "test": sentences[second:]}


def _genia_json(folder: Path, options: Options) -> Splits:
    return {split: read_token_spans(_one(folder, names, (".jsonl", ".json"))) for split, names in _IOB.items()}


def _ace(folder: Path, options: Options) -> Splits:
    documents = ace.read_ace(folder, "head" if options.span == "head" else "extent")
    lists = options.splits or folder
    splits: Splits = {}
    for split in _IOB:
        path = lists / f"{split}.txt"
        if not path.exists():
            raise DataError(
                f"{path} does not exist. It must list the document ids of this split of ACE; pass the folder of the "
                "lists as --splits."
            )
        ids = [Path(line.strip()).name for line in read_lines(path, "ids of documents") if line.strip()]
        missing = [identifier for identifier in ids if identifier not in documents]
        if missing:
            raise DataError(f"{path}: {len(missing)} listed documents are not in {folder}, for example {missing[0]}.")
        splits[split] = [documents[identifier] for identifier in ids]
    return splits


_BC5 = {"train": (5203, 4182), "dev": (5347, 4244), "test": (5385, 4424)}
_TSV = ("train.*", "de*v*.*", "test.*")


def _bc5(iob_dev_disease: int, *labels: str) -> Mapping[str, Mapping[str, int]]:
    counts = {split: dict(zip(("Chemical", "Disease"), numbers, strict=True)) for split, numbers in _BC5.items()}
    counts["dev"]["Disease"] = iob_dev_disease
    return {split: {label: numbers[label] for label in labels} for split, numbers in counts.items()}


def _totals(train: int, dev: int, test: int, label: str = "") -> Mapping[str, Mapping[str, int]]:
    return {"train": {label: train}, "dev": {label: dev}, "test": {label: test}}


_CDR = ("CDR_TrainingSet.PubTator.txt", "CDR_DevelopmentSet.PubTator.txt", "CDR_TestSet.PubTator.txt")
_APF = {"ace2004": ("**/*_[Aa][Pp][Ff].[Xx][Mm][Ll]",), "ace2005": ("**/*.apf.xml",)}

BENCHMARKS: dict[str, tuple[Format, ...]] = {
    "conll2003": (
        Format(
            "columns, IOB1",
            ("eng.train", "eng.testa", "eng.testb"),
            _conll2003,
            {
                "train": {"LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600},
                "dev": {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842},
                "test": {"LOC": 1668, "MISC": 702, "ORG": 1661, "PER": 1617},
            },
        ),
    ),
    "ace2004": (Format("apf.xml and sgm", _APF["ace2004"], _ace, {}),),
    "ace2005": (Format("apf.xml and sgm", _APF["ace2005"], _ace, {}),),
    "genia": (
        Format("GENIAcorpus3.02 XML", ("GENIAcorpus3.0*.xml",), _genia_xml, {}),
        Format(
            "JSON lines of tokens", ("train.json*", "dev.json*", "test.json*"), _genia_json, _totals(44918, 5365, 5506)
        ),
    ),
    "bc5cdr": (
        Format("PubTator", _CDR, _bc5_pubtator("Chemical", "Disease"), _bc5(4244, "Chemical", "Disease")),
        Format("columns, IOB2", _TSV, _iob(), _bc5(4246, "Chemical", "Disease")),
    ),
    "bc5-chem": (
        Format("PubTator", _CDR, _bc5_pubtator("Chemical"), _bc5(4244, "Chemical")),
        Format("columns, IOB2", _TSV, _iob("Chemical"), _bc5(4246, "Chemical")),
    ),
    "bc5-disease": (
        Format("PubTator", _CDR, _bc5_pubtator("Disease"), _bc5(4244, "Disease")),
        Format("columns, IOB2", _TSV, _iob("Disease"), _bc5(4246, "Disease")),
    ),
    "ncbi": (
        Format("PubTator", ("NCBItrainset_corpus.txt",), _ncbi_pubtator, _totals(5145, 787, 960, "Disease")),
        Format("columns, IOB2", _TSV, _iob("Disease"), _totals(5134, 787, 960, "Disease")),
    ),
    "jnlpba": (Format("standoff", ("dev_ids.txt",), _jnlpba, _totals(46750, 4551, 8662)),),
    "bc2gm": (Format("columns, IOB2", _TSV, _iob("GENE"), _totals(15197, 3061, 6325)),),
}


def read_benchmark(name: str, folder: str | Path, options: Options = Options()) -> tuple[Format, Splits]:
    """Read the splits of a benchmark. Return the detected format and the splits.

    Raises:
        DataError: the folder is missing, its files have no known format of the benchmark, or a file is malformed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    form = next((form for form in BENCHMARKS[name] if form.fits(folder)), None)
    if form is None:
        expected = "; or ".join(f"{form.name}: {', '.join(form.files)}" for form in BENCHMARKS[name])
        raise DataError(
            f"{folder}: this folder is not a known distribution of {name}. Expected the files of one of these formats: "
            f"{expected}."
        )
    return form, form.read(folder, options)
