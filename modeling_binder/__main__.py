"""Run the command line: `python -m modeling_binder` is the same as `binder-ner`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
