"""A PDF engine that is one answer late: each answer belongs to the request before."""

import sys

from pipeline.documents.pdf.worker import PROGRAM, EngineMessage, read_message, write_message

if __name__ == "__main__":
    stdout = sys.stdout.buffer
    write_message(stdout, EngineMessage({"program": PROGRAM}))
    while (asked := read_message(sys.stdin.buffer)) is not None:
        state = {"number": asked.head["number"] - 1, "resident_bytes": 0, "spent": False}
        write_message(stdout, EngineMessage(state, [b"another account's document"]))
