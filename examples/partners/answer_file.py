"""Answer a handoff in a partner's SFTP folder by a file: answer_file.py FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

folder = Path(sys.argv[1])
# The service writes a manifest last: what it lists is complete. The connection test has left one, too.
manifests = {json.loads(path.read_bytes())["type"]: path for path in (folder / "out").glob("*/manifest.json")}
handoff = json.loads(manifests["exports.handoff.ready.v1"].with_name("message.json").read_bytes())["data"]
answer = {"submissionId": handoff["submissionId"], "id": "F-1:filed", "status": "filed", "entryNumber": "ABC-1234567-8"}
part = folder / "in" / "F-1.json.part"
part.parent.mkdir(exist_ok=True)
part.write_text(json.dumps(answer), encoding="utf-8")
part.rename(folder / "in" / "F-1.json")
