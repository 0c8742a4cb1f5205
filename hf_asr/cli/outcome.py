"""How a recipe ends: done, or one message a user can act on, as rank 0's last line on stderr."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence

from hf_asr.cli.warnings import drop_known_warnings
from hf_asr.errors import RunFailed, UserError

DONE, PROBLEM, IMPOSSIBLE = 0, 1, 2
# What a shell reports for a program ended by Ctrl-C.
INTERRUPTED = 128 + signal.SIGINT
# Of a file: no right to it, or a path that leads nowhere (a file where a folder should be, a loop of links ...).
NO_ACCESS = frozenset(
    (
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    )
)


def disk_message(error: OSError) -> str | None:
    """Return what to tell about a full or read-only disk, or a path that leads nowhere; None for other errors."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"expected room on the disk, found none left while writing {error.filename or 'a file'}. Free some, "
            "then go on with training.resume_from_checkpoint=true"
        )
    if error.errno in NO_ACCESS and error.filename is not None:
        found = f"{error.filename}: {error.strerror}"
        return f"expected a file that can be read and written, found {found}. Change its rights, or use another place."
    return None


def run_recipe(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run a recipe's ``main`` and turn a user's mistake into one message and an exit code.

    Args:
        main: Takes the command line's arguments.
        argv: They; by default those of this process.

    Returns:
        0 done, 1 for a result that is not what was asked for, 2 for something impossible, 130 interrupted. Every rank
        returns it; ranks other than 0 put their number before the message, since the mistake may be theirs alone.
    """
    drop_known_warnings()
    try:
        main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        return tell(str(error))
    except RunFailed as error:
        tell(str(error))
        return PROBLEM
    except OSError as error:
        message = disk_message(error)
        if message is None:
            raise
        return tell(message)
    except KeyboardInterrupt:
        tell("interrupted. To go on with this run: training.resume_from_checkpoint=true")
        return INTERRUPTED
    return DONE


def tell(message: str) -> int:
    """Print a user's mistake on stderr and return its exit code."""
    rank = os.environ.get("RANK", "0")
    prefix = "" if rank == "0" else f"process {rank}: "
    print(f"{prefix}{message}", file=sys.stderr, flush=True)
    return IMPOSSIBLE
