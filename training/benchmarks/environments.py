"""Install the Python environments of the peers: the other packages in the speed benchmark.

Each peer has a separate environment, because the peers need different versions of transformers.
"""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers"
ENVIRONMENTS = Path(__file__).resolve().parents[2] / ".bench"  # listed in .gitignore


def python_of(peer: str, folder: Path = ENVIRONMENTS) -> str:
    """Return the Python interpreter of a peer's environment.

    The first call installs the environment. This takes minutes. If its requirements change, the environment is
    installed again.

    Args:
        peer: name of the file of requirements in the folder peers, without suffix.
        folder: folder of the environments.

    Raises:
        RuntimeError: the installation failed; the message contains the last output of pip.
    """
    requirements = REQUIREMENTS / f"{peer}.txt"
    place = folder / peer
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    mark = place / "installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return str(python)
    print(f"Installing {peer} into {place} (takes minutes) ...", flush=True)
    venv.create(place, with_pip=True, clear=True)
    # Upgrade pip first, because old versions need hours to resolve these requirements.
    for arguments in (["--upgrade", "pip"], ["--requirement", str(requirements)]):
        command = [str(python), "-m", "pip", "install", "--quiet", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            output = " ".join(done.stdout.split()[-80:])
            raise RuntimeError(
                f"the environment of {peer} could not be installed: {output}. To skip it, pass other --contenders."
            )
    mark.write_text(wanted, encoding="utf-8")
    return str(python)
