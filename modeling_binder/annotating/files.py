"""Find the files of a table: on this machine, at an fsspec URL, or in a dataset on the Hub."""

import gzip
import lzma
import posixpath
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.registry import known_implementations

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
MANIFEST = "_binder.json"  # file in each output folder; it begins with an underscore, so programs skip it
COMPRESSIONS = (".gz", ".bz2", ".xz")  # suffixes of compressed text files
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class SourceFile:
    """A file of a table.

    Args:
        url: fsspec URL of the file.
        name: path relative to the source. New ids of rows begin with this path.
        format: a value of `FORMATS`.
        size: size of the file in bytes.
        version: a checksum of the content, or the time of the last change.
    """

    url: str
    name: str
    format: str
    size: int
    version: str

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file for reading bytes. A compressed file is decompressed.

        Raises:
            ValueError: the compressed data are incomplete or damaged.
        """
        try:
            with fsspec.open(self.url, "rb", compression="infer") as file:
                yield file
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            of_system = isinstance(error, OSError) and type(error) not in (OSError, gzip.BadGzipFile)
            if of_system or getattr(error, "errno", None) or not self.url.endswith(COMPRESSIONS):
                raise
            raise ValueError(f"{self.url}: not a complete compressed file ({error}).") from error


def filesystem_of(url: str | Path) -> tuple[Any, str]:
    """Return the file system of a URL or of a local path, and the path in this file system.

    Raises:
        ValueError: the URL needs a package that is not installed, or fsspec does not know its protocol.
    """
    protocol = str(url).split("://")[0] if "://" in str(url) else "file"
    try:
        filesystem, path = fsspec.url_to_fs(str(url))
    except ImportError:
        package = known_implementations.get(protocol, {}).get("class", protocol).split(".")[0]
        raise ValueError(f"{url}: {protocol}:// needs a package that is not installed: pip install {package}") from None
    except ValueError as error:
        raise ValueError(f"{url}: {error}; expected a path, or a URL such as s3://bucket/folder.") from None
    return filesystem, str(path)


def find_files(source: str | Path, split: str | None = None, config: str | None = None) -> list[SourceFile]:
    """Return the files of a table in the order of their names.

    Args:
        source: a file, a folder or a pattern with `*`, as a local path or an fsspec URL. Or the id of a dataset on the
            Hub.
        split: split of a dataset on the Hub. Required if the dataset has several splits.
        config: configuration of a dataset on the Hub. Required if the dataset has several configurations.

    Raises:
        ValueError: the source does not exist, has no JSONL, CSV or Parquet files, or has files of different formats.
    """
    source = str(source)
    if "://" not in source and not Path(source).exists() and _HUB_ID.fullmatch(source):
        urls = _hub_urls(source, split, config)
        names = {url: url.split("@", 1)[-1].split("/", 1)[-1] for url in urls}
    else:
        if split or config:
            raise ValueError(f"{source}: only datasets on the Hub have splits and configurations, and this is a path.")
        urls, names = _urls(source)
    files = []
    for url in urls:
        filesystem, path = filesystem_of(url)
        info = filesystem.info(path)
        files.append(SourceFile(url, names[url], format_of(path), int(info.get("size") or 0), _version(info)))
    formats = sorted({file.format for file in files})
    if len(formats) > 1:
        raise ValueError(
            f"{source}: the files have different formats ({', '.join(formats)}); choose files of one format."
        )
    return files


def format_of(path: str) -> str:
    """Return the format of a table file, from its suffix.

    Raises:
        ValueError: the suffix is unknown.
    """
    suffix = _suffix(path)
    if suffix not in FORMATS:
        raise ValueError(
            f"{path}: {suffix!r} is not the suffix of a table; expected {', '.join(FORMATS)}. Text files may also "
            f"be compressed ({', '.join(COMPRESSIONS)})."
        )
    return FORMATS[suffix]


def _suffix(path: str) -> str:
    stem, suffix = posixpath.splitext(path.lower())
    inner = posixpath.splitext(stem)[1]
    return inner if suffix in COMPRESSIONS and inner in FORMATS and inner != ".parquet" else suffix


def _urls(source: str) -> tuple[list[str], dict[str, str]]:
    """Return the URLs of a path or a pattern, and a dictionary from each URL to the name of its file."""
    filesystem, path = filesystem_of(source)
    filesystem.invalidate_cache()
    try:
        if _GLOB.search(path) and not filesystem.exists(path):
            root = _GLOB.split(path)[0].rpartition("/")[0]
            paths = [
                found for found in filesystem.glob(path) if not _is_hidden(found, root) and not filesystem.isdir(found)
            ]
        elif filesystem.isdir(path):
            listed = filesystem.find(path)
            outputs = {posixpath.dirname(found) for found in listed if posixpath.basename(found) == MANIFEST}
            tables = [found for found in listed if not _is_hidden(found, path) and _suffix(found) in FORMATS]
            # The output folder of an annotation may lie in the folder of its source.
            paths = [found for found in tables if posixpath.dirname(found) not in outputs] or tables
            root = path
        else:
            filesystem.info(path)
            paths, root = [path], posixpath.dirname(path)
    except FileNotFoundError:
        raise ValueError(f"{source}: there is no such file, folder or dataset.") from None
    if not paths:
        raise ValueError(f"{source}: there are no tables; expected files with {', '.join(FORMATS)}.")
    urls = {filesystem.unstrip_protocol(found): _relative(found, root) for found in sorted(paths)}
    return list(urls), urls


def _relative(path: str, root: str) -> str:
    return path.removeprefix(root.rstrip("/")).lstrip("/")


def _is_hidden(path: str, root: str) -> bool:
    return any(part.startswith((".", "_")) for part in _relative(path, root).split("/"))


def _hub_urls(name: str, split: str | None, config: str | None) -> list[str]:
    """Return the URLs of the data files of a split. The URLs contain the current commit of the dataset."""
    try:
        from datasets import load_dataset_builder
    except ModuleNotFoundError:
        raise ValueError(f"{name}: datasets on the Hub need a package: pip install datasets") from None
    try:
        found = load_dataset_builder(name, config).config.data_files or {}
    except Exception as error:  # datasets, huggingface_hub and pyarrow raise errors of many classes
        advice = " Choose one with --config." if "Config name is missing" in str(error) else ""
        raise ValueError(
            f"{name}: there is no such file or folder, and the dataset on the Hub cannot be read: "
            f"{str(error).strip():.600}{advice}"
        ) from None
    splits = {str(key): [str(url) for url in urls] for key, urls in found.items()}
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        problem = "choose a split with --split" if split is None else f"there is no split {split!r}"
        raise ValueError(f"{name}: {problem}; the splits are {', '.join(splits) or 'none'}.")
    return splits[split]


def _version(info: Mapping[str, Any]) -> str:
    """Return a checksum or the time of the last change of a file.

    Args:
        info: the description of the file by its fsspec file system.
    """
    lfs = info.get("lfs") or {}
    for value in (lfs.get("sha256"), *(info.get(key) for key in ("ETag", "etag", "md5Hash", "blob_id"))):
        if value:
            return str(value).strip('"')
    return str(next((info[key] for key in ("mtime", "LastModified", "last_modified", "created") if key in info), ""))
