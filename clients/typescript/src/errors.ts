/**
 * The errors of a call; each says what the caller should do.
 *
 * ClientError
 * ├── ApiProblem       the API refused the call: branch on `code`
 * ├── ApiUnreachable   the API does not respond, or something else responds: try again later
 * ├── Corrupted        a document's bytes do not have the export's hash: do not use them
 * ├── StillRunning     the time is up, and the export continues: ask again later
 * ├── InvalidArgument  an argument cannot be sent: correct it
 * └── InvalidWebhook   a request is not a webhook of the service: answer it with `status` and do nothing
 */

import { type ErrorCode, REMEDIES } from "./problems.js";
import type { Problem } from "./schema.js";

/** The base of all errors that this client throws on purpose. */
export class ClientError extends Error {
  override readonly name: string = "ClientError";
}

/** One invalid field of a request: `path` names it, and `pointer` is a JSON Pointer into the body. */
export interface Issue {
  path: string;
  pointer: string;
  message: string;
  code: string;
}

/** The API refused the call; `problem` is the whole problem document. */
export class ApiProblem extends ClientError {
  override readonly name = "ApiProblem";
  /** What to branch on. A later version of the service may add codes. */
  readonly code: ErrorCode | (string & {});
  readonly status: number;
  /** The name of the field that is wrong, if it is one. */
  readonly field: string | undefined;
  /** The same field as a JSON Pointer, if it is in the body. */
  readonly pointer: string | undefined;
  /** Every invalid field of the body. */
  readonly issues: readonly Issue[];
  /** What to do about `code`; undefined for a code that this version does not know. */
  readonly remedy: string | undefined;
  /** The page with the cause and the remedy of `code`. */
  readonly help: string | undefined;
  /** Names this request in the service's log. */
  readonly requestId: string;

  constructor(
    readonly problem: Problem,
    url: string,
    /** When to ask again, if the API said so. */
    readonly retryAfterSeconds?: number,
  ) {
    super(problem.message);
    this.code = problem.errorCode;
    this.status = problem.status;
    this.field = problem.field ?? undefined;
    this.pointer = problem.pointer ?? undefined;
    const issues = problem.details?.["issues"];
    this.issues = Array.isArray(issues) ? issues : [];
    this.remedy = (REMEDIES as Record<string, string>)[problem.errorCode];
    this.help = problem.help == null ? undefined : new URL(problem.help, url).href;
    this.requestId = problem.requestId;
  }
}

/** The API does not respond at the address, or something else responds. */
export class ApiUnreachable extends ClientError {
  override readonly name = "ApiUnreachable";
  /** The HTTP status, if something answered. */
  readonly status: number | undefined;

  constructor(message: string, facts: { cause?: unknown; status?: number } = {}) {
    super(message, "cause" in facts ? { cause: facts.cause } : undefined);
    this.status = facts.status;
  }
}

/** A document's bytes do not have the hash that the export names. */
export class Corrupted extends ClientError {
  override readonly name = "Corrupted";
}

/** The time was up before the export ended. */
export class StillRunning extends ClientError {
  override readonly name = "StillRunning";
}

/** An argument cannot be sent, and nothing was sent: `argument` names it. The value is not repeated: it may be a secret. */
export class InvalidArgument extends ClientError {
  override readonly name = "InvalidArgument";
  constructor(
    readonly argument: string,
    reason: string,
  ) {
    super(`${argument} ${reason}`);
  }
}

/** A request is not a webhook of the service: answer it with `status`, and do nothing else. */
export class InvalidWebhook extends ClientError {
  override readonly name = "InvalidWebhook";
  constructor(
    message: string,
    readonly status: 400 | 401,
  ) {
    super(message);
  }
}

/** Return the error in an error answer, from its body as text or as parsed JSON. */
export function parseRefusal(body: unknown, response: Response): ApiProblem | ApiUnreachable {
  if (!isProblem(body)) {
    return new ApiUnreachable(`${response.url} answered ${response.status} without a problem document`, {
      status: response.status,
    });
  }
  return new ApiProblem(body, response.url, parseRetryAfter(response.headers));
}

function isProblem(body: unknown): body is Problem {
  const members: Record<string, unknown> = { ...(typeof body === "object" ? body : null) };
  return (
    typeof members["status"] === "number" &&
    ["errorCode", "message", "requestId"].every((name) => typeof members[name] === "string")
  );
}

/** Return what `Retry-After` asks for, in seconds; an instant counts from the answer's `Date` (RFC 9110, 10.2.3). */
function parseRetryAfter(headers: Headers): number | undefined {
  const value = headers.get("Retry-After")?.trim() ?? "";
  if (/^\d{1,9}$/.test(value)) return Number(value);
  const seconds = (Date.parse(value) - Date.parse(headers.get("Date") ?? "")) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}
