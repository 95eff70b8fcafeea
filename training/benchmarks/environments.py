"""Environments of the peers: each its own, since none runs under the transformers of another."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers"
MADE = Path(__file__).resolve().parents[2] / ".bench"  # git ignores it


def python_of(peer: str, folder: Path = MADE) -> str:
    """The interpreter of a peer's environment, which is made on the first call (minutes: it holds its own torch).

    Args:
        peer: name of a file of peers/, without its suffix. The environment is made anew when that file changes.
        folder: where environments stand.

    Raises:
        RuntimeError: it could not be installed; tells pip's last lines.
    """
    requirements = REQUIREMENTS / f"{peer}.txt"
    place = folder / peer
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    mark = place / "installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return str(python)
    print(f"Installing {peer} into {place} (minutes) ...", flush=True)
    venv.create(place, with_pip=True, clear=True)
    # An old pip needs hours to resolve what a new one resolves in a second.
    for wishes in (["--upgrade", "pip"], ["--requirement", str(requirements)]):
        command = [str(python), "-m", "pip", "install", "--quiet", *wishes]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stdout.split()[-80:])
            raise RuntimeError(
                f"the environment of {peer} could not be installed: {said}. Without it: --contenders without {peer}."
            )
    mark.write_text(wanted, encoding="utf-8")
    return str(python)
