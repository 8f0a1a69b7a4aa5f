/** Retries of failed calls: bounded in number and time, at random times, and never sooner than the service asks. */

import { ApiProblem, ApiUnreachable } from "./errors.js";

/**
 * How often and how long a call is tried.
 *
 * Each pause is random, up to a limit that doubles from `firstPauseMs` to `maxPauseMs`. After `totalMs` no further
 * attempt begins. A `Retry-After` beyond the remaining time ends the call at once.
 */
export interface Retries {
  readonly tries: number;
  readonly firstPauseMs: number;
  readonly maxPauseMs: number;
  readonly totalMs: number;
}

export const RETRIES: Retries = { tries: 4, firstPauseMs: 250, maxPauseMs: 8_000, totalMs: 60_000 };

/** Every call is made once. */
export const NO_RETRIES: Retries = { ...RETRIES, tries: 1 };

const TRANSIENT_STATUSES: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);

/** The calls that change something and may be repeated without a further effect; reads may be, too. */
const REPEATABLE: ReadonlySet<string> = new Set([
  "post /api/exports/execute",
  "post /api/exports/plan",
  "post /api/exports/plans",
  "post /api/exports/preflight",
  "post /api/exports/proforma",
  "post /api/deadlines/calendar",
  "delete /api/deadlines/calendar",
  "post /api/exports/{id}/acknowledge",
  "post /api/exports/{id}/messages",
  "post /api/exports/{id}/sandbox-answers",
  "post /api/exports/{id}/attachments",
  "post /api/filed-entries",
  "post /api/deliveries/{id}/acknowledge",
  "post /api/artifacts/{id}/links",
  "post /api/broker-submissions/{id}/links",
  "post /api/broker-submissions/{id}/acknowledgements",
  "post /api/broker-submissions/{id}/attachments",
  "post /api/products/sync",
  "post /api/orders/sync",
  "post /api/plan-templates/sync",
  "patch /api/partners/{id}",
  "patch /api/print-settings",
  "patch /api/deadlines/leads",
  "post /api/test-clock",
  "delete /api/test-clock",
]);

/** The causes by which Node.js says that it reached no server, so that the service did nothing. */
const NOT_SENT_CODES: ReadonlySet<unknown> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** No answer came, or none that can be read. */
export class Unanswered extends ApiUnreachable {
  /** Whether the request was certainly not sent. */
  get notSent(): boolean {
    const cause = this.cause instanceof Error ? this.cause.cause : undefined;
    return cause instanceof Error && "code" in cause && NOT_SENT_CODES.has(cause.code);
  }
}

/** Return whether a repeat of this call has no further effect. */
export function isRepeatable(verb: string, path: string, idempotencyKey: boolean): boolean {
  return verb === "get" ? path !== "/readyz" : idempotencyKey || REPEATABLE.has(`${verb} ${path}`);
}

/** Return what `attempt` returns, after as many attempts as `retries` allows; throws the last error. */
export async function retry<T>(
  attempt: () => Promise<T>,
  retries: Retries,
  repeatable: boolean,
  signal: AbortSignal | undefined,
): Promise<T> {
  const began = performance.now();
  for (let failures = 1; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (failures >= retries.tries || !mayRetry(error, repeatable)) throw error;
      const longest = Math.min(retries.maxPauseMs, retries.firstPauseMs * 2 ** (failures - 1));
      const pause = Math.random() * longest + readRetryAfterMs(error);
      if (performance.now() + pause > began + retries.totalMs) throw error;
      await sleep(pause, signal);
    }
  }
}

function mayRetry(error: unknown, repeatable: boolean): boolean {
  // The service answers "too many requests" before it does anything.
  if (error instanceof ApiProblem) {
    if (!repeatable) return error.status === 429;
    return TRANSIENT_STATUSES.has(error.status) || error.code === "IDEMPOTENCY_IN_PROGRESS";
  }
  if (error instanceof Unanswered) return repeatable || error.notSent;
  return error instanceof ApiUnreachable && repeatable && TRANSIENT_STATUSES.has(error.status ?? 0);
}

/** Return how long the service asks to wait, in milliseconds; 0 if it does not say. */
export function readRetryAfterMs(error: unknown): number {
  return error instanceof ApiProblem ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
}

/** Wait; throws the signal's reason if it is aborted before. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
