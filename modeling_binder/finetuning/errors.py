"""The error that readers raise if a file or a corpus is malformed."""

from collections.abc import Sequence


class DataError(ValueError):
    """A corpus or a file is malformed. The message names the file, the line and the field, and says what to correct.

    The message of an error from `DataError.of` shows at most `SHOWN` problems. `problems` contains all problems, as one
    string for each problem.
    """

    SHOWN = 5
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, problems: Sequence[str]) -> "DataError":
        """Return one error for several problems. Its message shows the first problems and their total number."""
        shown = list(problems[: cls.SHOWN])
        if len(problems) > 1:
            hidden = f"... and {len(problems) - len(shown)} more " if len(problems) > len(shown) else ""
            shown.append(f"{hidden}({len(problems)} problems in total)")
        error = cls("\n".join(shown))
        error.problems = tuple(problems)
        return error
