"""Faults are contained: the PDF engine's process dies only for its document, and a worker that hangs ends itself."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from pipeline.core.errors import RendererCrashed
from pipeline.documents.formats.invoice_pdf import TEMPLATE
from pipeline.documents.pdf.supervisor import Renderer, RendererLimits
from pipeline.documents.pdf.worker import ADDRESS_SPACE_BYTES
from tests.documents.samples import WHOLE, sample
from tests.support.interpreter import run_interpreter
from tests.system.faults import poisoned_engine
from tests.system.faults.matrix import mark_own_stack


@pytest.fixture
def renderer(request: pytest.FixtureRequest) -> Iterator[Renderer]:
    """A renderer whose engine takes poison, with one second of CPU unless the test names another limit.

    It is not replaced after a number of documents.
    """
    limits = RendererLimits(cpu_seconds=getattr(request, "param", 1), requests=1_000_000)
    renderer = Renderer(limits, engine=poisoned_engine.__name__)
    yield renderer
    renderer.close()


def facts(number: str = "A-1") -> bytes:
    return TEMPLATE.facts(sample(1), slice(0, 1)).replace(b"INV-10045", number.encode())


@mark_own_stack("F28")
@pytest.mark.parametrize(
    ("renderer", "poison", "end"),
    [
        (1, poisoned_engine.CRASHES, "died of SIGSEGV"),
        (1, poisoned_engine.LOOPS, "used more than 1 s of processor time and was stopped"),
        # Filling the memory is work too, and takes a slow machine more than a second of CPU.
        (60, poisoned_engine.EATS_MEMORY, "died with code 1"),
    ],
    indirect=["renderer"],
)
def test_engine_crash_fails_only_its_document(renderer: Renderer, poison: str, end: str) -> None:
    sound = renderer.set_document(TEMPLATE.name, facts(), WHOLE, 0)
    with pytest.raises(RendererCrashed, match=f"^the PDF engine {end} at commercial_customs_invoice.typ$"):
        renderer.set_document(TEMPLATE.name, facts(f"{poison}-1"), WHOLE, 0)
    assert renderer.set_document(TEMPLATE.name, facts(), WHOLE, 0) == sound


@mark_own_stack("F28")
def test_engine_has_resource_limits(renderer: Renderer) -> None:
    renderer.set_document(TEMPLATE.name, facts(), WHOLE, 0)
    assert renderer.pid is not None
    engine = psutil.Process(renderer.pid)
    assert engine.rlimit(psutil.RLIMIT_AS) == (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)
    assert engine.rlimit(psutil.RLIMIT_CORE) == (0, 0), "a core dump would hold invoices"
    allowed, _ = engine.rlimit(psutil.RLIMIT_CPU)
    used = engine.cpu_times()
    assert 0 < allowed - (used.user + used.system) <= 2
    assert Path(f"/proc/{engine.pid}/oom_score_adj").read_text().strip() == "1000"


def test_cpu_limit_is_per_document(renderer: Renderer) -> None:
    renderer.set_document(TEMPLATE.name, facts(), WHOLE, 0)
    assert renderer.pid is not None
    engine = psutil.Process(renderer.pid)
    while sum(engine.cpu_times()[:2]) < 2.5:
        renderer.set_document(TEMPLATE.name, facts(), WHOLE, 0)
    assert renderer.pid == engine.pid


HANGS: Final = """
import threading, time
from pipeline.core.watchdog import WATCHDOG
from tests.system.faults.poisoned_engine import loop
with WATCHDOG.limit(3600):
    with WATCHDOG.limit(3):
        print("in time", flush=True)
    time.sleep(3.5)
    print("not ended by a limit that was kept", flush=True)
    with WATCHDOG.limit(0.3):
        loop()
print("never", flush=True)
"""


@mark_own_stack("F28")
def test_hanging_process_ends_itself_and_logs_the_place(tmp_path: Path) -> None:
    ended = run_interpreter(HANGS, tmp_path)
    assert ended.returncode == -signal.SIGALRM
    assert ended.stdout.splitlines() == ["in time", "not ended by a limit that was kept"]
    assert "in loop" in ended.stderr
