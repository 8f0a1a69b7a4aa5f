"""What to do about each error code; the page `/docs/problems` shows it."""

from collections.abc import Mapping
from typing import Final

REMEDIES: Final[Mapping[str, str]] = {
    "INVALID_REQUEST": "Send a JSON object in UTF-8 with `Content-Type: application/json`, and correct what `message` names.",
    "VALIDATION_ERROR": "Correct each field of `details.issues`: `path` names it, `pointer` points to it, and `message` says what it must be.",
    "INVALID_API_KEY": "Send `Authorization: Bearer KEY`. If the key has expired or was revoked, create one: `exports keys create --account ACCOUNT --role execute`.",
    "SIGN_IN_FAILED": "Sign in again at `/console/sign-in`.",
    "INVALID_ACCOUNT_SCOPE": "Send the `accountId` of the key, or use a key of that account.",
    "INSUFFICIENT_ROLE": "Use a key with the role and mode that `message` names. An administrator of the account can create it.",
    "NOT_FOUND": "Check the id and the address. A test key finds only test exports, and no key finds another account's.",
    "METHOD_NOT_ALLOWED": "Use a method that the header `Allow` lists.",
    "REQUEST_TIMEOUT": "Send the request again. If it is slow each time, look at the network and at the body's size.",
    "PLAN_HASH_MISMATCH": "Compute `planHash` from the plan that you send, or leave it out.",
    "EXPORT_ALREADY_EXECUTED": "Amend the export to change its plan, or execute the plan as a new batch.",
    "IDEMPOTENCY_IN_PROGRESS": "Wait a second and send the same request with the same key again.",
    "INVALID_STATE": "Read the export or partner again, and do what `message` names. Do not repeat the call unchanged.",
    "ARTIFACT_LOST": "Ask the operator to run `exports artifacts restore`, which makes the same bytes again.",
    "PRECONDITION_FAILED": "Read the resource again, decide again, and send its new `ETag` as `If-Match`.",
    "PAYLOAD_TOO_LARGE": "Divide the plan into batches, or let the operator raise the limit that `message` names.",
    "HEADERS_TOO_LARGE": "Shorten the address and the headers.",
    "IDEMPOTENCY_KEY_REUSED": "Send the first body again with this key, or a new key with the new body.",
    "PLAN_NOT_APPROVED": "Have the plan approved, and send it with its `approval`.",
    "PLAN_EXPIRED": "Have the plan approved again, and send it with the new `approval.expiresAt`.",
    "PLAN_NOT_EXECUTABLE": "Correct each finding of `details`: it has a pointer, a rule and a remedy. Preflight checks a plan without executing it.",
    "NOT_IN_HANDOFF": "Name a unit, line or field that the handoff has; JSON Pointers count from 0.",
    "UNKNOWN_PARTNER": "Register the partner, or correct its id in the plan. A test key may reach only test partners and the sandbox.",
    "PARTNER_NOT_LIVE": "Test the partner and activate it, or resume it if it is paused.",
    "RATE_LIMITED": "Wait as many seconds as `Retry-After` says, then send the request again.",
    "NOT_READY": "Wait as many seconds as `Retry-After` says, then send the same request again. `/readyz` names what fails.",
    "BUSY": "Wait as many seconds as `Retry-After` says, then send the same request again. Send fewer requests at a time.",
    "INTERNAL_ERROR": "Send the request again. If it fails again, report its `requestId` to the operator, who finds it in the log.",
}
