"""The error that readers raise for a file or a corpus that is wrong."""

from collections.abc import Sequence


class DataError(ValueError):
    """A corpus or a file is wrong; the message names file, line and field and how to mend it.

    `problems` holds all problems, one string each, where the message shows only the first few.
    """

    SHOWN = 5
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, problems: Sequence[str]) -> "DataError":
        """Return one error for several problems: the first few, and their number."""
        shown = list(problems[: cls.SHOWN])
        if len(problems) > 1:
            hidden = f"... and {len(problems) - len(shown)} more " if len(problems) > len(shown) else ""
            shown.append(f"{hidden}({len(problems)} problems in total)")
        error = cls("\n".join(shown))
        error.problems = tuple(problems)
        return error
