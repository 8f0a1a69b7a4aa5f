"""A parent of programs that tests break: they have the failpoints, shorter limits and the PDF engine that a test names."""

import os
import sys
from pathlib import Path
from typing import Final

from pipeline.documents.pdf.supervisor import RENDERER
from tests.support import failpoints, fork_server, quick_engine
from tests.system.faults import open_transactions, short_timeouts

MODULE: Final = "tests.system.faults.fork_server"
#: The variable that names another program of the PDF engine.
ENGINE: Final = "TEST_PDF_ENGINE"
#: Faults that have nothing to do with documents use an engine that sets none.
QUICK: Final = {ENGINE: quick_engine.__name__}


def prepare() -> None:
    """Take from the environment what a test changes in a program."""
    short_timeouts.shorten()
    failpoints.arm_from_environment()
    RENDERER._engine = os.environ.get(ENGINE, RENDERER._engine)


def main(folder: Path) -> None:
    """Fork programs until the input ends."""
    open_transactions.start_reporting()
    fork_server.main(folder, prepare)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
