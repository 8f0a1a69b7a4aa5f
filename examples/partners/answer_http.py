"""Answer a handoff over HTTP: answer_http.py MESSAGE.json SECRET.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx
from signature import sign

handoff = json.loads(Path(sys.argv[1]).read_bytes())["data"]
secret = json.loads(Path(sys.argv[2]).read_bytes())["secret"]
body = json.dumps({"id": "HOOK-1:accepted", "status": "accepted", "reference": "HOOK-1"})
headers = {"content-type": "application/json"} | sign(body, secret, "HOOK-1:accepted")
print(httpx.post(handoff["acknowledgementUrl"], content=body, headers=headers).text)
