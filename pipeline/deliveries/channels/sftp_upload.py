"""Uploads a message as files. Each is written under a temporary name, read back and then renamed.

The partner's folder `out/<message id>/` gets the documents, `message.json` and, last, `manifest.json`. If the same
message is sent again, the files stay and only the date of the manifest changes.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import asyncssh
from asyncssh import SFTPClient, SFTPError, SFTPNoSuchFile, SFTPOpUnsupported

from pipeline.accounts.recipients import no_lease_check
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, StoreUnavailable
from pipeline.deliveries.channels.protocol import Attachment, DeliveryReceipt, OutgoingMessage, excerpt
from pipeline.deliveries.schemas.views import DeliveredFile, FileManifest

OUTBOX: Final = "out"
MESSAGE, MANIFEST = "message.json", "manifest.json"

#: How many documents are written at once over one connection, to reduce the waits for a distant server.
_AT_ONCE: Final = 8

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_DOCUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}/[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


async def upload_message(
    client: SFTPClient, root: str, message: OutgoingMessage, before_send: Callable[[], None] = no_lease_check
) -> DeliveryReceipt:
    """Write the message and its documents. Raises ChannelUnavailable if a file is not taken.

    `before_send` is called when only the manifest is missing; without it there is not yet a message. Its errors pass.
    """
    if not _ID.fullmatch(message.id) or not all(_DOCUMENT.fullmatch(each.name) for each in message.attachments):
        raise ChannelRefused("the message's id or a document's name cannot be a file name")
    folder = f"{root}{OUTBOX}/{message.id}"
    for path in dict.fromkeys([root + OUTBOX, folder, *(_parent_folder(folder, each) for each in message.attachments)]):
        await expect_accepted(path, ensure_folder(client, path))
    limit = asyncio.Semaphore(_AT_ONCE)

    async def document(each: Attachment) -> bool:
        async with limit:
            return await _ensure_file(client, f"{folder}/{each.name}", each.size, each.sha256, each.read)

    written = await _gather([document(each) for each in message.attachments])
    own = DeliveredFile(name=MESSAGE, size=len(message.body), sha256=hashlib.sha256(message.body).hexdigest())
    written.append(await _ensure_file(client, f"{folder}/{MESSAGE}", own.size, own.sha256, lambda: message.body))
    files = [DeliveredFile(name=each.name, size=each.size, sha256=each.sha256) for each in message.attachments]
    manifest = FileManifest(
        id=message.id, type=message.type, export_id=message.export_id, plan_id=message.plan_id, files=[*files, own]
    )
    before_send()
    await write_atomically(client, f"{folder}/{MANIFEST}", _encode_manifest(manifest))
    return DeliveryReceipt("written", f"files written: {sum(written)}; there already: {len(written) - sum(written)}")


async def _gather(works: Sequence[Coroutine[Any, Any, bool]]) -> list[bool]:
    """Return the results. The first error cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _ensure_file(client: SFTPClient, path: str, size: int, sha256: str, read: Callable[[], bytes]) -> bool:
    """Make the file at `path` match `size` and `sha256`. Return whether it had to be written."""
    if await _file_matches(client, path, size, sha256):
        return False
    try:
        body = await asyncio.to_thread(read)
    except StoreUnavailable as error:
        raise ChannelUnavailable("the store did not return the document", status="StoreUnavailable") from error
    if (len(body), hashlib.sha256(body).hexdigest()) != (size, sha256):
        raise ChannelRefused(f"the document {path.rpartition('/')[2]} in the store differs from the rendered one")
    await write_atomically(client, path, body)
    return True


async def write_atomically(client: SFTPClient, path: str, body: bytes) -> None:
    """Write the bytes beside `path`, read them back, and rename the file to `path`."""
    part = f"{path}.part"
    try:
        await expect_accepted(path, _write(client, part, body))
        if not await _file_matches(client, part, len(body), hashlib.sha256(body).hexdigest()):
            raise ChannelUnavailable("the server stores other bytes than were written", status="FileCorrupt")
        await expect_accepted(path, _rename_over(client, part, path))
    except ChannelUnavailable:
        # On a full disk, a partial file takes space from others.
        with suppress(asyncssh.Error):
            await client.remove(part)
        raise


async def _write(client: SFTPClient, path: str, body: bytes) -> None:
    async with client.open(path, "wb") as file:
        await file.write(body)


async def _file_matches(client: SFTPClient, path: str, size: int, sha256: str) -> bool:
    """Return whether the server has these bytes at `path`. It reads them: a hash from the server may be wrong."""
    try:
        body = await read_beginning(client, path, size + 1)
    except SFTPError:
        return False
    return len(body) == size and hashlib.sha256(body).hexdigest() == sha256


async def read_beginning(client: SFTPClient, path: str, max_bytes: int) -> bytes:
    """Return at most `max_bytes` from the beginning of a file. Raises SFTPError."""
    async with client.open(path, "rb") as file:
        return cast("bytes", await file.read(max_bytes))


async def _rename_over(client: SFTPClient, path: str, name: str) -> None:
    """Rename `path` to `name`, and replace an existing file."""
    try:
        await client.posix_rename(path, name)
    except SFTPOpUnsupported:
        # Plain SFTP cannot replace a file by renaming. The file that appears is still complete.
        with suppress(SFTPNoSuchFile):
            await client.remove(name)
        await client.rename(path, name)


async def expect_accepted(path: str, work: Awaitable[None]) -> None:
    """Await the work on `path`. If it fails, raises ChannelUnavailable with the server's reason."""
    try:
        await work
    except SFTPError as error:
        name = type(error).__name__
        place = path.partition(f"{OUTBOX}/")[2] or path
        raise ChannelUnavailable(
            f"the server did not take {place}: {name.removeprefix('SFTP')}",
            status=name,
            answer=excerpt(error.reason.encode()),
        ) from error


async def ensure_folder(client: SFTPClient, path: str) -> None:
    """Create the folder `path` if it does not exist. Its parent must exist. Raises SFTPError."""
    try:
        await client.mkdir(path)
    except SFTPError:
        # Servers answer "failure" for an existing folder, as for any other error.
        if not await client.isdir(path):
            raise


def _parent_folder(folder: str, attachment: Attachment) -> str:
    return f"{folder}/{attachment.name.partition('/')[0]}"


def _encode_manifest(manifest: FileManifest) -> bytes:
    return json.dumps(manifest.model_dump(by_alias=True), indent=2).encode() + b"\n"
