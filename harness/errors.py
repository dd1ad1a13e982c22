"""What can go wrong, one small class each. The message is one line: what, where, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DiffbenchError(Exception):
    """Base of every error that a user can cause or mend; the command line prints it as one line."""

    exit_code = 2


class InputError(DiffbenchError):
    """A table, study, method, parameter or option that cannot be used as written."""


class SharedError(DiffbenchError):
    """What a trial meets that others would meet too, whose fault it is not: it ends a sweep, and is in no record."""


class DataError(SharedError):
    """A raw or prepared file that is missing, damaged or not in the expected format, or cannot be written."""


class NoDataError(DataError):
    """A dataset that is not here: it is not prepared, and there is nothing to prepare it from."""


class TestDataError(DiffbenchError):
    """A search asked for rows that only the final repeats may read."""

    __test__ = False  # not a test class, whatever its name says to pytest


class StoreError(SharedError):
    """The store cannot be read or written."""


class ClusterError(SharedError):
    """The cluster cannot be reached, has another version, or lacks what a trial asks for."""


class LostWorkersError(DiffbenchError):
    """A trial's workers ended and left no word of why; it may be begun again, from its last checkpoint."""


class TrialError(DiffbenchError):
    """A trial that could not finish, for a reason that its record names."""

    exit_code = 1


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest known word, or what is known when nothing is close."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
