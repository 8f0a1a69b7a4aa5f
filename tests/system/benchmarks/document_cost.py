"""S6 and S7: the processor time of a unit's documents, of an invoice PDF, and the memory of the PDF engine."""

from contextlib import ExitStack
from functools import partial

from tests.system.benchmarks.environments import EMBEDDED, BenchmarkServers
from tests.system.benchmarks.exports import LINES
from tests.system.benchmarks.figures import Round, compare
from tests.system.benchmarks.goals import Extent, Goal, at_most
from tests.system.benchmarks.interleave import PROCESSOR, Side, run_module

_MODULE = "tests.system.benchmarks.documents"
#: The lines that all invoices of a round have together, at least; the processor's clock ticks every 10 ms.
_LINES_A_ROUND = 200


def measure_unit(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """S6: all documents of one unit, and keeping them."""
    count = extent.documents
    with Side(_MODULE, ("unit", count), servers.stack(EMBEDDED), servers.make_folder()) as side:
        found = compare({"unit": partial(side.measure, count)}, extent.rounds)
    goal = f"processor ms of the documents of a unit of {LINES} lines, keeping them included"
    return [at_most("S6", goal, 70, found.median("unit", PROCESSOR))]


def measure_invoice(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """S7: the invoice PDF against a plain one, and the PDF engine's memory."""
    goals = []
    for lines in extent.invoice_lines:
        count = extent.invoices or max(1, _LINES_A_ROUND // lines)
        with ExitStack() as running:
            sides: dict[str, Round] = {}
            for kind in ("ours", "plain"):
                side = Side(_MODULE, (kind, count, lines), servers.stack(EMBEDDED), servers.make_folder())
                sides[kind] = partial(running.enter_context(side).measure, count)
            found = compare(sides, extent.rounds)
        times = f"{found.median('ours', PROCESSOR):.0f} ms against {found.median('plain', PROCESSOR):.0f} ms"
        ratio = found.ratio(PROCESSOR, "ours", "plain")
        goals.append(at_most("S7", f"invoice PDF of {lines} lines against a plain Typst invoice", 2.0, ratio, times))
    for lines, most in extent.memory_lines:
        peak = run_module(_MODULE, ("peak", lines), servers.stack(EMBEDDED))
        goals.append(at_most("S7", f"highest MB of the PDF engine, {lines} lines", most, peak))
    return goals
