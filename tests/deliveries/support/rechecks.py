"""The data of messages about rechecked plans."""

from typing import Any, Final

from pipeline.deliveries.schemas.messages import MessageType

RECHECKED: Final[dict[str, dict[str, Any]]] = {
    MessageType.EXPORT_RECHECKED: {
        "ruleset": "us-new",
        "rulesetBefore": "us-old",
        "appeared": [
            {
                "rule": "V11",
                "severity": "warn",
                "pointer": "/units/0/lines/0/treatment/chapter99/0/ratePercent",
                "message": "Line L1 gives 25 %, but the rate is 30 %.",
                "remedy": "Correct the rate.",
                "source": None,
            }
        ],
        "gone": [],
        "inspect": "/api/exports/exp_1",
    },
    MessageType.PLAN_RECHECKED: {
        "planId": "pln_1",
        "batchId": "batch_1",
        "test": False,
        "planHash": "sha256:00",
        "ruleset": "us-new",
        "rulesetBefore": None,
        "editions": ["hts_7"],
        "editionsBefore": ["hts_6"],
        "appeared": [],
        "gone": [
            {
                "rule": "V12",
                "severity": "block",
                "pointer": "/units/0",
                "message": "Line L1 has no heading.",
                "remedy": "Add the heading.",
                "source": None,
            }
        ],
    },
}
