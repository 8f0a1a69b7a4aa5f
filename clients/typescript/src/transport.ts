/** Sends one call: checks what is sent, limits its time, retries it, and throws what went wrong. */

import createClient from "openapi-fetch";

import { ApiUnreachable, ClientError, InvalidArgument, parseRefusal } from "./errors.js";
import { isRepeatable, retry, RETRIES, type Retries, Unanswered } from "./retries.js";
import type { paths } from "./schema.js";

export type Verb = "get" | "post" | "patch" | "delete";

export interface ExportsOptions {
  /** The service's address, such as `https://exports.example`. */
  readonly url: string;
  /** An API key; without one, only public calls answer. */
  readonly key?: string;
  /** How long one attempt may take, with its body; 30 seconds if not given. */
  readonly timeoutMs?: number;
  readonly retries?: Partial<Retries>;
  /** What sends requests, instead of the global `fetch`. */
  readonly fetch?: (request: Request) => Promise<Response>;
}

export interface CallOptions {
  /** Ends the call, which then throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** How long one attempt of this call may take, with its body. */
  readonly timeoutMs?: number;
}

/** One call as openapi-fetch takes it. */
export interface Init extends CallOptions {
  readonly headers?: Record<string, unknown>;
  readonly params?: {
    readonly path?: Record<string, unknown>;
    readonly query?: Record<string, unknown>;
    readonly header?: Record<string, unknown>;
  };
  readonly body?: unknown;
  readonly bodySerializer?: (body: unknown) => unknown;
  readonly parseAs?: string;
}

export interface Answered {
  readonly data: unknown;
  readonly response: Response;
}

type Send = (verb: Verb, path: string, init: object) => Promise<Answered & { error?: unknown }>;

export class Transport {
  readonly #timeoutMs: number;
  readonly #retries: Retries;
  readonly #url: string;
  readonly #send: Send;

  constructor(options: ExportsOptions) {
    const { url, key, timeoutMs = 30_000, retries, fetch = (request) => globalThis.fetch(request) } = options;
    this.#url = checkUrl(url);
    this.#timeoutMs = timeoutMs;
    this.#retries = { ...RETRIES, ...retries };
    const http = createClient<paths>({
      baseUrl: this.#url,
      headers: key === undefined ? {} : { Authorization: `Bearer ${checkHeader("key", key)}` },
      // The key must go only to the API.
      redirect: "manual",
      fetch,
    });
    // The types of the paths stand at the methods of the client.
    this.#send = http.request as unknown as Send;
  }

  /** Return the successful answer to a call, after as many attempts as may help. */
  async perform(verb: Verb, path: string, init: Init = {}): Promise<Answered> {
    checkArguments(init);
    const timeoutMs = (init.timeoutMs ?? this.#timeoutMs) + readWaitMs(path, init);
    const hasKey = init.params?.header?.["Idempotency-Key"] != null;
    const attempt = () => this.attempt(verb, path, { ...init, timeoutMs });
    return retry(attempt, this.#retries, isRepeatable(verb, path, hasKey), init.signal);
  }

  /** Return the successful answer to a call that is sent once, without a limit of time if `timeoutMs` is not given. */
  async attempt(verb: Verb, path: string, init: Init): Promise<Answered> {
    const { timeoutMs, signal, ...rest } = init;
    const limit = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
    const signals = [signal, limit].filter((each) => each !== undefined);
    try {
      const { data, error, response } = await this.#send(verb, path, { ...rest, signal: AbortSignal.any(signals) });
      // 304 answers If-None-Match: nothing has changed, and there is no body.
      if (!response.ok && response.status !== 304) throw parseRefusal(error, response);
      return { data, response };
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof ClientError) throw error;
      if (limit?.aborted) throw new Unanswered(`${this.#url} did not answer within ${timeoutMs} ms`, { cause: error });
      if (error instanceof SyntaxError) {
        throw new ApiUnreachable(`${this.#url}${path} answers with something other than this API`, { cause: error });
      }
      throw new Unanswered(`${this.#url} does not respond: ${describe(error)}`, { cause: error });
    }
  }
}

/** Return how much longer than others a call may take: as long as it asks the service to wait, or as tests of endpoints do. */
function readWaitMs(path: string, init: Init): number {
  if (path === "/api/partners/{id}/test") return 120_000;
  const [, seconds = 0] = /\bwait=(\d+)/.exec(String(init.params?.header?.["Prefer"] ?? "")) ?? [];
  return Number(seconds) * 1000;
}

function describe(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message || String(("code" in cause && cause.code) || cause.name) : String(cause);
}

function checkUrl(url: string): string {
  const found = URL.canParse(url) ? new URL(url) : undefined;
  if (found === undefined || !["http:", "https:"].includes(found.protocol)) {
    throw new InvalidArgument("url", "must be an address such as http://127.0.0.1:8000");
  }
  if (found.username || found.password) {
    // fetch refuses it, with the address in its message.
    throw new InvalidArgument("url", "must not hold a user or a password; the API only needs the key");
  }
  return found.href.replace(/\/+$/, "");
}

function checkArguments(init: Init): void {
  for (const [name, value] of Object.entries(init.params?.path ?? {})) {
    // Dots would name another path.
    if (/^\.*$/.test(String(value))) {
      throw new InvalidArgument(name, "must not be empty or only dots; give the whole id");
    }
  }
  for (const [name, value] of Object.entries(init.params?.header ?? {})) {
    if (value != null) checkHeader(name, String(value));
  }
}

/** Return `value` for a header: printable ASCII without space around it (RFC 9110, 5.5). */
function checkHeader(argument: string, value: string): string {
  if (value !== value.trim()) {
    throw new InvalidArgument(
      argument,
      "must not begin or end with a space or a line break; a file with Windows line ends leaves one",
    );
  }
  if (!/^[ -~]+$/.test(value)) {
    throw new InvalidArgument(argument, "must be printable ASCII; an HTTP header takes no other characters");
  }
  return value;
}
