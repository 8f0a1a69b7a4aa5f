"""The metrics of this process: how it counts, and how a page shows what it and the other processes of its pool counted."""

import fcntl
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from pipeline.core.errors import MetricsNotServed
from pipeline.core.metrics_folder import find_shared_folder, reserve_files

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which no query needs

log = structlog.get_logger(__name__)

#: The metrics of the work of this process.
REGISTRY: Final = CollectorRegistry()

# The parent of a worker pool forks while its other threads count. A child would wait forever for a lock that one of them
# held at that moment. So no process forks during an update.
_UPDATE: Final = threading.Lock()
os.register_at_fork(before=_UPDATE.acquire, after_in_parent=_UPDATE.release, after_in_child=_UPDATE.release)

#: The file with the counts of processes of a pool that have ended.
_ENDED: Final = "ended"

_off = False


def _begin_child() -> None:
    """Reserve the files of this forked process if it shares a folder; count nothing if that fails."""
    global _off  # noqa: PLW0603 - one state of the whole process
    if (folder := find_shared_folder()) is None:
        return
    try:
        reserve_files(folder)
    except OSError as error:
        _off = True
        log.warning("metrics_not_counted", reason=error.strerror)


if (_folder := find_shared_folder()) is not None:
    reserve_files(_folder)
os.register_at_fork(after_in_child=_begin_child)


def make_counter(name: str, text: str, **labels: Sequence[str]) -> Counter:
    """Return a new counter. Each label has its known values, which are shown as 0 until they occur; others may occur."""
    counter = Counter(name, text, tuple(labels), registry=REGISTRY)
    if len(labels) == 1:
        for value in next(iter(labels.values())):
            counter.labels(value)
    return counter


def make_histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
    """Return a new histogram of seconds."""
    return Histogram(name, text, labels, registry=REGISTRY, buckets=buckets)


def make_gauge(name: str, text: str) -> Gauge:
    """Return a new gauge; of several processes of a pool, the highest value of those that live is shown."""
    return Gauge(name, text, registry=REGISTRY, multiprocess_mode="livemax")


def count(counter: Counter, *labels: str, by: float = 1) -> None:
    """Add to the counter."""
    if _off:
        return
    with _UPDATE:
        (counter.labels(*labels) if labels else counter).inc(by)


def observe(histogram: Histogram, seconds: float, *labels: str) -> None:
    """Add a duration to the histogram."""
    if _off:
        return
    with _UPDATE:
        (histogram.labels(*labels) if labels else histogram).observe(seconds)


def set_gauge(gauge: Gauge, value: float) -> None:
    """Set the gauge."""
    if _off:
        return
    with _UPDATE:
        gauge.set(value)


def build_registry() -> CollectorRegistry:
    """Return a registry of the version, the memory and time of this process, and all metrics of the process or its pool."""
    registry = CollectorRegistry()
    registry.register(_WorkDone())
    ProcessCollector(registry=registry)
    return registry


@contextmanager
def serve_metrics(host: str, port: int) -> Iterator[int]:
    """Serve the metrics at the address while the block runs; yield the port. Port 0 takes a free one.

    Raises MetricsNotServed.
    """
    try:
        server, thread = start_http_server(port, host, build_registry())
    except OSError as error:
        raise MetricsNotServed(
            f"cannot serve the metrics at {host}:{port}: {error.strerror}; another process may use the port, so give each"
            " process its own by --metrics-port, or set EXPORTS_METRICS_PORT=0"
        ) from error
    # A forked child would hold the port after its parent has ended.
    os.register_at_fork(after_in_child=server.socket.close)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _WorkDone(Collector):
    """The version, and what the processes of the pool counted, or this process if it is alone."""

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the collector reads no file."""
        return ()

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("exports_build_info", "1, with the version of the service", labels=["version"])
        build.add_metric([version("exports")], 1)
        yield build
        folder = find_shared_folder()
        if folder is None:
            yield from REGISTRY.collect()
            return
        with _locked(folder):
            merge_ended(folder)
            yield from _read(folder.glob("*.db"), accumulate=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # A child that was forked meanwhile has the same open file, so closing it here would not unlock it.
            fcntl.flock(lock, fcntl.LOCK_UN)


def merge_ended(folder: Path) -> None:
    """Move the counts of processes that have ended into one file for each type, and delete their files.

    Without these counts the sums would fall, and Prometheus would take that for a restart.
    """
    ended: dict[str, list[Path]] = {}
    for path in folder.glob("*.db"):
        kind, _, pid = path.stem.rpartition("_")
        if pid != _ENDED and not _is_alive(int(pid)):
            ended.setdefault(kind, []).append(path)
    for kind, paths in ended.items():
        if not kind.startswith("gauge"):
            _merge(paths, folder / f"{kind}_{_ENDED}.db")
        for path in paths:
            path.unlink()


def _read(paths: Iterable[Path], *, accumulate: bool) -> Iterable[Metric]:
    # A process that has just opened its file, or was killed then, leaves it empty.
    files = [str(path) for path in paths if path.exists() and path.stat().st_size]
    metrics: Iterable[Metric] = MultiProcessCollector.merge(files, accumulate=accumulate)  # type: ignore[no-untyped-call]
    return metrics


def _merge(paths: Sequence[Path], kept: Path) -> None:
    new = kept.with_suffix(".new")
    new.unlink(missing_ok=True)
    values: Any = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for metric in _read([*paths, kept], accumulate=False):
        for sample in metric.samples:
            labels: Mapping[str, str] = sample.labels
            key = mmap_key(metric.name, sample.name, list(labels), list(labels.values()), metric.documentation)
            values.write_value(key, sample.value, 0.0)
    values.close()
    new.replace(kept)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
