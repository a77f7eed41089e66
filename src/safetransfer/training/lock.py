"""A lock of a run's directory: two processes that wrote one run would spoil it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from safetransfer.errors import CheckpointError, TrainingError

try:
    import fcntl
except ImportError:  # not on Windows, where there is no lock
    fcntl = None  # type: ignore[assignment]

FILE_NAME = ".lock"


def locked(run_dir: Path, within: float = 0.0) -> IO[bytes]:
    """The lock of `run_dir`, which is made if need be; it goes with this process, or when closed.

    Waits up to `within` seconds for another process to give it up. Raises TrainingError where that
    one does not, CheckpointError where nothing can be written there.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = open(run_dir / FILE_NAME, "ab")  # noqa: SIM115 (held by the caller)
    except OSError as error:
        raise CheckpointError(f"{run_dir} cannot be written: {error.strerror}") from None
    give_up = time.monotonic() + within
    while fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > give_up:
                file.close()
                raise TrainingError(
                    f"another process is training {run_dir}: wait for it, or give another directory"
                ) from None
            time.sleep(0.2)
        except OSError:  # a file system without locks
            break
    return file


@contextlib.contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Hold the lock of `run_dir`; where nothing else comes to be there, it leaves no directory."""
    fresh = not run_dir.exists()
    with locked(run_dir) as file:
        try:
            yield
        finally:
            if fresh and [entry.name for entry in run_dir.iterdir()] == [FILE_NAME]:
                Path(file.name).unlink()
                run_dir.rmdir()
