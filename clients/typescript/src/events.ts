/** Following a log or a feed as server-sent events: the last event, and what to do about a broken stream. */

import { createParser } from "eventsource-parser";

import { ApiProblem, ApiUnreachable } from "./errors.js";
import { readRetryAfterMs, sleep } from "./retries.js";
import type { EventView } from "./schema.js";

/** How long the stream may be silent before it is opened again; the service sends a heartbeat more often. */
const SILENCE_MS = 30_000;
const RECONNECT_MS = 500;
/** How often in a row the stream may break. */
const MAX_FAILURES = 10;
const TRANSIENT_STATUSES: ReadonlySet<number> = new Set([408, 429]);

/** Opens the stream after the event of this cursor. */
export type Open<Cursor> = (after: Cursor, signal: AbortSignal) => Promise<Response>;

/** Yield the events after the one of the cursor `after` until no more will follow. */
export async function* followEvents<Event extends EventView, Cursor>(
  open: Open<Cursor>,
  cursorOf: (event: Event) => Cursor,
  after: Cursor,
  signal: AbortSignal | undefined,
): AsyncGenerator<Event, void, undefined> {
  let last = after;
  let failures = 0;
  for (;;) {
    const silence = new Silence(SILENCE_MS);
    let pauseMs = RECONNECT_MS;
    try {
      const end = AbortSignal.any([silence.signal, ...(signal ? [signal] : [])]);
      const response = await silence.limit(open(last, end));
      if (response.status === 204) return;
      for await (const event of readEvents<Event>(response, silence)) {
        last = cursorOf(event);
        failures = 0;
        yield event;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (isFinal(error)) throw error;
      // Silence is not a failure: an export may have no events for a while.
      if (!silence.signal.aborted && ++failures > MAX_FAILURES) {
        throw new ApiUnreachable("the stream of events broke too often", { cause: error });
      }
      pauseMs = Math.max(pauseMs, readRetryAfterMs(error));
    } finally {
      silence.end();
    }
    await sleep(pauseMs, signal);
  }
}

async function* readEvents<Event extends EventView>(
  response: Response,
  silence: Silence,
): AsyncGenerator<Event, void, undefined> {
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream") || response.body === null) {
    throw new ApiUnreachable(`${response.url} answers with something other than events`);
  }
  const found: Event[] = [];
  const parser = createParser({ onEvent: ({ data }) => found.push(parseEvent<Event>(data)) });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await silence.limit(reader.read());
    if (done) return;
    parser.feed(value);
    yield* found.splice(0);
  }
}

function parseEvent<Event extends EventView>(data: string): Event {
  let event: unknown;
  try {
    event = JSON.parse(data);
  } catch {
    // The next check says it.
  }
  if (typeof event !== "object" || event === null || !("seq" in event) || typeof event.seq !== "number") {
    throw new ApiUnreachable("the stream holds something other than events of this version");
  }
  return event as Event;
}

/** Return whether opening the stream again cannot help. */
function isFinal(error: unknown): boolean {
  return error instanceof ApiProblem && error.status < 500 && !TRANSIENT_STATUSES.has(error.status);
}

/** Aborts its signal if what it limits takes too long; the time that the reader of the events takes does not count. */
class Silence {
  readonly #controller = new AbortController();

  constructor(readonly longestMs: number) {}

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  async limit<T>(wait: Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.#controller.abort(), this.longestMs);
    try {
      return await wait;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Close the connection, if it is open. */
  end(): void {
    this.#controller.abort();
  }
}
