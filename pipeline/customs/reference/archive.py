"""Signed rules: a folder with a signature file, or a bundle, which is a zip of the same files. The signature is Ed25519."""

import stat
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from pipeline.core.errors import RulesInvalid
from pipeline.customs.reference.content import ENDINGS, MAX_BYTES, MAX_FILES, RulesContent, list_hashes, read_folder

#: The file that holds the signature, in a folder and in a bundle: `ed25519 PUBLIC_KEY SIGNATURE`, in base64.
SIGNATURE: Final = "rules.sig"
_ALGORITHM: Final = "ed25519"
#: It stands before the signed text, so that no signature over another kind of text fits.
_SIGNED_KIND: Final = "exports-rules 1\n"
#: A name of a member has at most this many characters.
_MAX_NAME: Final = 200
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_BROKEN: Final = (BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError, zlib.error)


@dataclass(frozen=True)
class RulesFiles:
    """Rules as they were read from their place, and the public key that signed them; None if they are not signed."""

    content: RulesContent
    signed_by: str | None


def create_private_key() -> bytes:
    """Return a new private key for signing rules, in PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def derive_public_key(private_key: bytes) -> str:
    """Return the public key of a private key in PEM, in base64. Raises ValueError if it is not one of Ed25519."""
    return _public_text(_load_private_key(private_key))


def sign_rules(content: RulesContent, private_key: bytes) -> str:
    """Return the text of the signature file. Raises ValueError if the key is not a private key of Ed25519 in PEM."""
    key = _load_private_key(private_key)
    signature = b64encode(key.sign(_signed_text(content.files))).decode()
    return f"{_ALGORITHM} {_public_text(key)} {signature}\n"


def pack_rules(content: RulesContent, signature: str) -> bytes:
    """Return the bundle of the rules; the same rules and signature give the same bytes."""
    return pack_files({**content.files, SIGNATURE: signature.encode()})


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of the files, in the order of their names; the same files give the same bytes."""
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for name in sorted(files):
            member = ZipInfo(name, _ZIP_EPOCH)
            member.compress_type, member.external_attr = ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, files[name])
    return packed.getvalue()


def unpack_files(packed: bytes, place: str) -> dict[str, bytes]:
    """Return the files of a zip. Raises RulesInvalid if it is damaged, too large, or has a file of another kind."""
    try:
        with ZipFile(BytesIO(packed)) as archive:
            return _read_members(archive, place)
    except _BROKEN as error:
        raise RulesInvalid([f"{place}: it is not a bundle of rules ({error}). Copy it again."]) from error


def read_rules(place: Path, trusted: Sequence[str]) -> RulesFiles:
    """Return the rules of a folder or a bundle, without checking what they say.

    A bundle needs the signature of a trusted key, and so does a folder if there is a trusted key. Raises RulesInvalid.
    """
    try:
        if place.is_dir():
            return _read_signed_folder(place, trusted)
        with place.open("rb") as opened:
            packed = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise RulesInvalid([f"{place}: {error.strerror}. Name a folder of rules or a signed bundle."]) from error
    if len(packed) > MAX_BYTES:
        raise RulesInvalid([f"{place}: it is larger than {MAX_BYTES} bytes. Name a bundle of rules."])
    files = unpack_files(packed, str(place))
    signature = files.pop(SIGNATURE, None)
    return RulesFiles(RulesContent(files), _check_signature(files, signature, trusted, place))


def _read_signed_folder(folder: Path, trusted: Sequence[str]) -> RulesFiles:
    content = read_folder(folder)
    if not trusted:
        return RulesFiles(content, None)
    file = folder / SIGNATURE
    signature = file.read_bytes() if file.exists() else None
    return RulesFiles(content, _check_signature(content.files, signature, trusted, folder))


def _read_members(archive: ZipFile, place: str) -> dict[str, bytes]:
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise RulesInvalid([f"{place}: it has {len(members)} files. A bundle of rules has at most {MAX_FILES}."])
    files: dict[str, bytes] = {}
    left = MAX_BYTES
    for member in members:
        name = member.filename
        if not _is_rules_name(name) or name in files or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise RulesInvalid(
                [
                    f"{place}: {name[:_MAX_NAME]!r} does not belong into a bundle. Make it by `exports rules bundle FOLDER FILE --key KEY`."
                ]
            )
        with archive.open(member) as opened:
            files[name] = opened.read(left + 1)
        left -= len(files[name])
        if left < 0:
            raise RulesInvalid([f"{place}: its files are larger than {MAX_BYTES} bytes. Name a bundle of rules."])
    return files


def _is_rules_name(name: str) -> bool:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and path.as_posix() == name and "\\" not in name
    return inside and len(name) <= _MAX_NAME and (name == SIGNATURE or path.suffix in ENDINGS)


def _check_signature(files: Mapping[str, bytes], signature: bytes | None, trusted: Sequence[str], place: Path) -> str:
    """Return the trusted public key that signed the files; raise RulesInvalid if none did."""
    if not trusted:
        raise RulesInvalid(
            [f"{place}: no key is trusted, and a bundle needs a signature. Set EXPORTS_RULES_KEYS to its public key."]
        )
    if signature is None:
        raise RulesInvalid([f"{place}: the rules are not signed. Sign them by `exports rules sign FOLDER --key KEY`."])
    algorithm, _, rest = signature.decode("ascii", "replace").strip().partition(" ")
    key, _, given = rest.partition(" ")
    if algorithm != _ALGORITHM or not given:
        raise RulesInvalid([f"{place}: its {SIGNATURE} is not a signature. Sign the rules again."])
    if key not in trusted:
        raise RulesInvalid(
            [
                f"{place}: key {key[:64]!r} signed the rules, but EXPORTS_RULES_KEYS does not have it. Add it, if you trust it."
            ]
        )
    try:
        Ed25519PublicKey.from_public_bytes(b64decode(key)).verify(b64decode(given, validate=True), _signed_text(files))
    except (InvalidSignature, ValueError) as error:
        raise RulesInvalid(
            [f"{place}: the signature does not fit the rules: a file was changed, or is missing. Sign the rules again."]
        ) from error
    return key


def _signed_text(files: Mapping[str, bytes]) -> bytes:
    return (_SIGNED_KIND + list_hashes(files)).encode()


def _public_text(key: Ed25519PrivateKey) -> str:
    return b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _load_private_key(private_key: bytes) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(private_key, None)
    except (TypeError, ValueError) as error:  # TypeError: it needs a password
        raise ValueError("it is not a private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is not a key of Ed25519")
    return key
