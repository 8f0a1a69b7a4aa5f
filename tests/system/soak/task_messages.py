"""A parent of processes with unreliable task messages: one in ten is never sent, and all others are sent twice."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import kombu

from tests.system.faults import fork_server

LOST: Final = 0.1

_publish: Final[Callable[..., Any]] = kombu.Producer.publish
_chances: dict[int, random.Random] = {}


def _publish_unreliably(*args: Any, **kwargs: Any) -> Any:
    """Publish partners' messages normally, and task messages twice or not at all."""
    if not (kwargs.get("headers") or {}).get("task"):
        return _publish(*args, **kwargs)
    # Each process has its own random numbers; inherited ones would be equal in all of them.
    if (pid := os.getpid()) not in _chances:
        _chances[pid] = random.Random(f"{os.environ.get('SOAK_SEED')}/{pid}")
    if _chances[pid].random() < LOST:
        return None
    _publish(*args, **kwargs)
    return _publish(*args, **kwargs)


if __name__ == "__main__":
    kombu.Producer.publish = _publish_unreliably  # type: ignore[method-assign]
    fork_server.main(Path(sys.argv[1]))
