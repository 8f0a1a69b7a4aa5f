"""The folder through which the processes of a pool share their metrics."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from config.settings import read_variables, variable_set
from pipeline.core.clock import utc_now
from pipeline.core.errors import MetricsNotServed

_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX: Final = "exports-metrics-"
#: The file that the processes of a pool keep locked while one of them lives.
_OWNER: Final = "owner"
#: A new folder is not locked yet.
_NEW_SECONDS: Final = 60.0

#: The kinds of metrics that have a file in each process, and its size: enough for about 8,000 series.
_KINDS: Final = ("counter", "histogram", "gauge_livemax")
_FILE_BYTES: Final = 1 << 20


@contextmanager
def share_metrics() -> Iterator[None]:
    """Make the processes that the block starts share their metrics; call it before any metric is made.

    Their folder is deleted at the end. Folders of pools that were killed are deleted at the start. Raises MetricsNotServed.
    """
    try:
        folder, owner = _make_folder()
    except OSError as error:
        raise MetricsNotServed(
            f"cannot make a folder for the metrics: {error.strerror}; set TMPDIR to a folder that this process may write to"
        ) from error
    maker = os.getpid()
    try:
        # prometheus_client reads this when it is imported.
        with variable_set(_VARIABLE, str(folder)):
            yield
    finally:
        if os.getpid() == maker:
            _delete(folder, owner)


def find_shared_folder() -> Path | None:
    """Return the folder through which the processes of a pool share their metrics; None if this process is alone."""
    (folder,) = read_variables("", [_VARIABLE]).values() or [""]
    return Path(folder) if folder else None


def _make_folder() -> tuple[Path, int]:
    """Return a new folder, and its locked file."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # Children that are forked inherit the open file, and with it the lock.
    owner = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        reserve_files(folder)
    except OSError:
        _delete(folder, owner)
        raise
    return folder, owner


def _delete(folder: Path, owner: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(owner)


def reserve_files(folder: Path) -> None:
    """Reserve the space of the files of this process. Raises OSError.

    A process that writes beyond it, to a full disk, ends by SIGBUS.
    """
    for kind in _KINDS:
        with (folder / f"{kind}_{os.getpid()}.db").open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or another process deletes it
            found = folder.lstat()
            if (
                found.st_uid == os.getuid()
                and utc_now().timestamp() - found.st_mtime > _NEW_SECONDS
                and not _is_owned(folder)
            ):
                shutil.rmtree(folder)


def _is_owned(folder: Path) -> bool:
    with (folder / _OWNER).open("a") as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
