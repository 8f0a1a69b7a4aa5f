"""The PDF engine, the only user of Typst: a process of its own that sets one document a request, on stdin and stdout.

Values reach Typst as data (`sys.inputs`), never as source, so nothing in them is ever evaluated. Documents are PDF/A-3b
(ISO 19005-3): every font and colour profile inside, and files of data attached.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import typst

from pipeline.documents.frames import Message, read_message, write_message

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"

#: ISO 19005-3, level b: looks the same for as long as it is kept, and may carry other files.
STANDARD: Final = "a-3b"

#: Address space of the process; Typst reserves far more than it touches.
ADDRESS_SPACE_BYTES = 3 * 1024**3

#: Where memory is short the system ends this process before any other, and not the worker that waits for it.
_ENDED_FIRST = "1000"


class Engine:
    """Typst with the vendored fonts alone, without packages, in a root with nothing in it."""

    def __init__(self) -> None:
        self._fonts = typst.Fonts(
            include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(TEMPLATES / "fonts")]
        )

    def answer(self, asked: Message) -> Message:
        """Return the answer to one request; raises RuntimeError where a document cannot be set."""
        match asked.head["task"]:
            case "set":
                return self._set(asked)
            case "count":
                return Message({"pages": int(self._compiler(asked).query("<end>", field="value", one=True))})
            case "join":
                return _joined(asked)
            case task:
                raise RuntimeError(f"the PDF engine does not know the task {task!r}")

    def _set(self, asked: Message) -> Message:
        compiler = self._compiler(asked)
        try:
            body = _compiled(compiler, asked.head["timestamp"], STANDARD)
        except typst.TypstError as error:
            if "PDF/A" not in str(error):
                raise
            # A sign that no font can draw in its place: a page with an empty box is better than none.
            body = _compiled(compiler, asked.head["timestamp"], "1.7")
        return Message({}, [body])

    def _compiler(self, asked: Message) -> typst.Compiler:
        folder = TEMPLATES / "documents"
        # The root is taken away again at once: there is nothing in it that a document could read.
        with tempfile.TemporaryDirectory() as root:
            return typst.Compiler(
                input=b"\n".join((folder / name).read_bytes() for name in ("page.typ", asked.head["template"])),
                root=root,
                font_paths=self._fonts,
                ignore_system_fonts=True,
                package_path=root,
                package_cache_path=root,
                sys_inputs={
                    "facts": asked.bodies[0].decode(),
                    "part": json.dumps(asked.head["part"]),
                    **({"attached": asked.bodies[1].decode()} if len(asked.bodies) > 1 else {}),
                },
            )


def _compiled(compiler: typst.Compiler, timestamp: int, standard: Literal["a-3b", "1.7"]) -> bytes:
    # Tags make the file about ten times as large, past what carriers take; the web page is the accessible form.
    body = compiler.compile(format="pdf", timestamp=timestamp, pdf_tags=False, pdf_standards=standard)
    if not isinstance(body, bytes):
        raise RuntimeError("the PDF engine gave no single document")
    return body


def _joined(asked: Message) -> Message:
    from pypdf import PdfReader, PdfWriter  # noqa: PLC0415 - only a document in parts needs it
    from pypdf.generic import ArrayObject, ByteStringObject, DecodedStreamObject, NameObject  # noqa: PLC0415

    # The first part's catalogue is the document's: colour profile, language, attached files. Only what says how many
    # pages there are and which document this is has to be said anew.
    first, *others = (PdfReader(BytesIO(body)) for body in asked.bodies)
    writer = PdfWriter(clone_from=first)
    for other in others:
        writer.append(other, import_outline=False)
    identity = b64encode(sha256(b"".join(asked.bodies)).digest()[:16])
    described = cast(DecodedStreamObject, first.root_object["/Metadata"].get_object()).get_data()
    described = re.sub(rb"(<xmpTPg:NPages>)\d+", rb"\g<1>%d" % len(writer.pages), described)
    described = re.sub(rb"(<xmpMM:(?:Instance|Document)ID>)[^<]*", rb"\g<1>" + identity, described)
    metadata = DecodedStreamObject()
    metadata.set_data(described)
    metadata.update({NameObject("/Type"): NameObject("/Metadata"), NameObject("/Subtype"): NameObject("/XML")})
    writer.root_object[NameObject("/Metadata")] = writer._add_object(metadata)  # noqa: SLF001 - no public way
    writer._ID = ArrayObject([ByteStringObject(identity)] * 2)  # noqa: SLF001
    out = BytesIO()
    writer.write(out)
    return Message({}, [out.getvalue()])


def serve(stdin: BinaryIO, stdout: BinaryIO, engine: Engine) -> None:
    """Answer requests until stdin ends; a document that cannot be set is answered with `error`."""
    while (asked := read_message(stdin)) is not None:
        # Should the parent die while Typst works, nobody is left to stop this process but itself.
        signal.setitimer(signal.ITIMER_REAL, asked.head["seconds"])
        _allow_cpu(asked.head["cpu_seconds"])
        try:
            answer = engine.answer(asked)
        except RuntimeError as error:  # typst.TypstError is one
            answer = Message({"error": str(error)})
        signal.setitimer(signal.ITIMER_REAL, 0)
        write_message(stdout, Message({**answer.head, "resident_bytes": resident_bytes()}, answer.bodies))


def resident_bytes() -> int:
    """Return how much memory this process holds now; where the system does not say, the most it has held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _allow_cpu(seconds: int) -> None:
    """Allow this process so much more of the processor's time; beyond it the system ends it, whatever it is doing."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def confine() -> None:
    """Bound what this process may take, and leave no image of its memory behind, which holds invoices."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_ENDED_FIRST)


def main(make: Callable[[], Engine] = Engine) -> None:
    """Serve on stdin and stdout, within bounds."""
    confine()
    # Ctrl-C reaches the whole foreground group: the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not end up between two frames.
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, stdout, make())


if __name__ == "__main__":
    main()
