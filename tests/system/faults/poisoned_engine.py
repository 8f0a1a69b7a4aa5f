"""The PDF engine's process, with plans that break it, selected by invoice number; the poisoned worker starts it."""

import os
import re
import signal
from typing import Final

from pipeline.documents.pdf.worker import EngineMessage, TypstEngine, main

#: Prefixes of invoice numbers, and so the fate of the engine.
CRASHES, LOOPS, EATS_MEMORY = "ASEGV", "ALOOP", "AEAT"

_PIECE: Final = 64 * 1024**2


def loop() -> None:
    """Work for ever within one call that never releases the interpreter to another thread."""
    re.match(r"(a+)+$", "a" * 64 + "b")


class PoisonedEngine(TypstEngine):
    """The PDF engine, unless the document is poison to it."""

    def handle_request(self, asked: EngineMessage) -> EngineMessage:
        """Answer a request, or break."""
        facts = bytes(asked.bodies[0])
        if CRASHES.encode() in facts:
            os.kill(os.getpid(), signal.SIGSEGV)
        if LOOPS.encode() in facts:
            loop()
        eaten = []
        while EATS_MEMORY.encode() in facts:
            eaten.append(bytes(_PIECE))
        return super().handle_request(asked)


if __name__ == "__main__":
    main(PoisonedEngine)
