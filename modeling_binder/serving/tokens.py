"""Read the bearer token of the server, and compare it with the tokens of requests."""

import hashlib
import hmac
import os
from pathlib import Path

TOKEN_VARIABLE = "BINDER_NER_TOKEN"


def read_token(file: str | None = None) -> bytes | None:
    """Return the digest of the token in a file or in the environment variable `BINDER_NER_TOKEN`.

    Return None if no file is given and the variable is not set. The token cannot be an argument of the command line,
    because every user of a machine can list the arguments of processes. The server keeps only the digest, so that Ray
    does not store the token in its data about the deployment.

    Raises:
        ValueError: the token is empty, or it has characters that are not allowed in an HTTP header.
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
    """Return whether the token of a request is right.

    The comparison always takes the same time, so that an attacker cannot guess the token from response times.

    Args:
        token: the token of the request, or None.
        expected: digest of the right token. None means that requests need no token.
    """
    if expected is None:
        return True
    return token is not None and hmac.compare_digest(digest(token), expected)
