"""What a user is told when something they asked for cannot be done."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake a user can mend: the message says what was expected, what was found and what to do.

    Verbs and recipes print it as one line on stderr and end with exit code 2. Our own invariants use
    ``assert`` instead.
    """


class RunFailed(Exception):
    """A run did all that was asked, and its result is not what was asked for: exit code 1 in place of 0."""
