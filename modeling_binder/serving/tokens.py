"""The bearer token: where it comes from, and how it is compared."""

import hashlib
import hmac
import os
from pathlib import Path

TOKEN_VARIABLE = "BINDER_NER_TOKEN"


def read_token(file: str | None = None) -> bytes | None:
    """Return the digest of the token in a file or in the environment variable `BINDER_NER_TOKEN`; None without a token.

    A token is no argument of the command line, because every user of a machine can list the arguments of
    processes. The server keeps the digest only, so that the token is not in what Ray stores about a deployment.

    Raises:
        ValueError: the token is empty or no HTTP header can hold it.
        OSError: the file cannot be read.
    """
    if file is None and TOKEN_VARIABLE not in os.environ:
        return None
    token = os.environ[TOKEN_VARIABLE] if file is None else Path(file).read_text(encoding="utf-8").strip()
    place = f"the environment variable {TOKEN_VARIABLE}" if file is None else f"the token file {file}"
    if not token:
        remedy = "unset the variable" if file is None else "leave out --token-file"
        raise ValueError(f"{place} is empty: put a token there, or {remedy} to serve without a token.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"the token in {place} must consist of printable ASCII characters without spaces.")
    return digest(token)


def digest(token: str) -> bytes:
    """Return the digest of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def is_authorized(token: str | None, expected: bytes | None) -> bool:
    """Compare a request's token with the right one, in a time that does not depend on where the two differ."""
    if expected is None:
        return True
    return token is not None and hmac.compare_digest(digest(token), expected)
