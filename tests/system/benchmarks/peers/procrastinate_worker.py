"""A worker of the peer on Procrastinate; with the argument `schema` it only creates the tables of the queue."""

import asyncio
import sys

from tests.system.benchmarks.peers.procrastinate_app import app


async def main(*, create_tables: bool) -> None:
    """Create the tables, or run jobs until the process is stopped."""
    async with app.open_async():
        if create_tables:
            await app.schema_manager.apply_schema_async()
        else:
            # A worker of a side that waits for its turn is frozen; it must not lose its jobs meanwhile.
            await app.run_worker_async(concurrency=8, delete_jobs="never", stalled_worker_timeout=3600)


if __name__ == "__main__":
    asyncio.run(main(create_tables="schema" in sys.argv))
