"""Request new signed links to a handoff's documents and check each document: fetch_documents.py MESSAGE.json SECRET.json."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import httpx
from signature import sign

handoff = json.loads(Path(sys.argv[1]).read_bytes())["data"]
secret = json.loads(Path(sys.argv[2]).read_bytes())["secret"]
url = handoff["acknowledgementUrl"].replace("/acknowledgements", "/links")
links = httpx.post(url, headers=sign("", secret, "links-1")).raise_for_status().json()["links"]
for link in links:
    document = httpx.get(link["signedUrl"]).raise_for_status().content
    if hashlib.sha256(document).hexdigest() != link["sha256"]:
        sys.exit(f"{link['signedUrl']} does not have the SHA-256 {link['sha256']}")
