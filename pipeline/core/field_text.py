"""What the patterns of fields mean, in words for people."""

import re
from typing import Final

#: A pattern of one kind of characters, with their number.
_ONE_KIND: Final = re.compile(r"\^\[([^\]]+)\](?:\{(\d+)(?:,(\d+))?\})?\$")
#: The kinds in words: for one character, and for several.
_KINDS: Final = {
    "0-9": ("digit", "digits"),
    "A-Z": ("capital letter", "capital letters"),
    "A-Z0-9": ("capital letter or digit", "capital letters or digits"),
    "A-Z0-9_": ("capital letter, digit or underscore", "capital letters, digits or underscores"),
    "A-Z0-9-": ("capital letter, digit or hyphen", "capital letters, digits or hyphens"),
    "A-Za-z0-9-": ("letter, digit or hyphen", "letters, digits or hyphens"),
}
_WORDS: Final = {
    r"^[A-Z]{2}$": "two letters, such as CA",
    r"^([A-Z]{2}|OTH)$": "two letters, such as CA, or OTH",
    r"^(-(?=.*[1-9]))?(0|[1-9][0-9]*)(\.[0-9]+)?$": "a decimal number without a plus sign, spaces or leading zeros, such as 12.50",
    r"^[1-9][0-9]{0,7}$": "a whole number from 1 to 99999999",
    r"^[1-9][0-9]{0,2}$": "a whole number from 1 to 999",
    r"^([2-9]|[1-9][0-9]{1,2})$": "a whole number from 2 to 999",
    r"^(0[1-9]|1[0-2])$": "a month as two digits, such as 07",
    r"^[0-9]{9}RM[0-9]{4}$": "9 digits, RM and 4 digits, such as 123456789RM0001",
    r"^NDR[1-9][0-9]?$": "NDR and a number from 1 to 99, such as NDR2",
    r"^98[0-9]{2}\.[0-9]{2}\.[0-9]{2}(\.[0-9]{2})?$": "8 or 10 digits with points that begin with 98, such as 9802.00.40",
    r"^99[0-9]{2}\.[0-9]{2}\.[0-9]{2}$": "8 digits with points that begin with 99, such as 9903.81.87",
    r"^[0-9]{3}\.[0-9]{3}$": "3 digits, a point and 3 digits, such as 081.001",
    r'^[^\s@,;<>"]+@[^\s@,;<>"]+\.[^\s@,;<>".]+$': "one e-mail address, such as anna@maple.example",
    r"^[A-Z0-9]{3}-?[0-9]{7}-?[0-9]$": "3 capital letters or digits, then 8 digits, such as ABC-1234567-8",
    r"^[A-Z]{1,2}[+*]?$": "1 or 2 capital letters, then perhaps + or *, such as CA",
    r"^[A-Z0-9][A-Z0-9 -]{0,14}$": "1 to 15 capital letters, digits, spaces or hyphens that begin with a letter or digit",
    r"^[A-HJ-NPR-Z0-9]{17}$": "17 capital letters or digits without I, O and Q",
    r"^sha256:[0-9a-f]{64}$": "sha256: and 64 digits or letters from a to f",
    r"^[\x21-\x7e]+$": "ASCII characters without spaces",
    r"^[A-Za-z][A-Za-z0-9_.-]{1,39}$": "2 to 40 letters, digits or . _ - that begin with a letter",
    r"^(/[A-Za-z0-9_.~*-]{1,64}){1,12}$": "a JSON Pointer, such as /units/0/lines/1/htsCode",
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$": "1 to 64 letters, digits or _ - that begin with a letter or digit",
    r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$": "1 to 64 letters, digits or . _ : / - that begin with a letter or digit",
    r"^[A-Za-z0-9][A-Za-z0-9._:-]{2,127}$": "3 to 128 letters, digits or . _ : - that begin with a letter or digit",
    r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$": "1 to 128 letters, digits or . _ : / - that begin with a letter or digit",
    r"^[A-Z0-9][A-Z0-9 ._-]{0,13}[A-Z0-9]$": "2 to 15 capital letters, digits, spaces or . _ - that begin and end with a letter or digit",
    r"^CP-[0-9]{1,12}$": "CP- and 1 to 12 digits, such as CP-000001",
    r"^[A-Z0-9][A-Z0-9.-]{2,19}$": "3 to 20 capital letters, digits, points or hyphens that begin with a letter or digit, such as 9903.88.03",
    r"^[0-9a-f]{64}$": "64 digits or letters from a to f",
    r"^att_[0-9a-f]{32}$": "att_ and 32 digits or letters from a to f",
    r"^sub_[0-9a-f]{32}$": "sub_ and 32 digits or letters from a to f",
    r"^(/[^/]*)*$": "empty or a JSON Pointer, such as /units/0",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(?:csv|txt|xlsx|json)$": "a file name without spaces that ends in .csv, .txt, .xlsx or .json, such as entry.csv",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(?:x12|edi|txt|xml)$": "a file name without spaces that ends in .x12, .edi, .txt or .xml, such as invoice.x12",
    r"^(?:YYYY|YY|MM|DD)[-/. ]?(?:YYYY|YY|MM|DD)[-/. ]?(?:YYYY|YY|MM|DD)$": "year, month and day in any order, such as MM/DD/YYYY",
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$": "an e-mail address without accents, such as entries@broker.example",
    r"^https?://[^\s@/?#]+([/?][^\s#]*)?$": "a web address without user and fragment, such as https://partner.example/exports",
    r"^sftp://[A-Za-z0-9._-]{1,64}@(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$": "an SFTP address with a user and without a password, such as sftp://user@host.example:22/folder",
    r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|rsa-sha2-(256|512)|ssh-rsa) [A-Za-z0-9+/=]+( .*)?$": "a public key of an SSH server, such as ssh-ed25519 AAAAC3Nza",
    r"^[A-Za-z0-9_-]+$": "`nextCursor` of the page before",
    r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$": "1 to 128 letters, digits or . _ : - that begin with a letter or digit",
}


def describe_pattern(pattern: str) -> str:
    """Return what a text must be to fit the pattern, as `must be 10 digits`; it names the pattern if no words are known."""
    if (words := _WORDS.get(pattern)) is not None:
        return f"must be {words}"
    known = _ONE_KIND.fullmatch(pattern)
    if known is None or known[1] not in _KINDS:
        return f"must match the pattern {pattern}"
    least, most = known[2] or "1", known[3] or known[2] or "1"
    return f"must be {least if least == most else f'{least} to {most}'} {_KINDS[known[1]][most != '1']}"
