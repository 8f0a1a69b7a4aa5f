/** The client: every call of the OpenAPI document, typed, and methods for what takes more than one call. */

import type { MaybeOptionalInit, ParseAsResponse } from "openapi-fetch";
import type {
  MediaType,
  PathsWithMethod,
  RequiredKeysOf,
  ResponseObjectMap,
  SuccessResponse,
} from "openapi-typescript-helpers";

import { Corrupted, InvalidArgument, StillRunning } from "./errors.js";
import { followEvents } from "./events.js";
import type { ArtifactView, AttachmentView, EventView, ExecuteRequest, ExportView, FeedEventView, paths } from "./schema.js";
import { type CallOptions, type ExportsOptions, type Init, Transport, type Verb } from "./transport.js";

type Operation = Record<string | number, unknown>;
/** Only a stream has no body (204), so `undefined` is left out. */
type Success<O extends Operation, Media extends MediaType> = Exclude<SuccessResponse<ResponseObjectMap<O>, Media>, undefined>;
/** The JSON of a successful answer; of a call that never answers with JSON, whatever it answers with. */
type Body<O extends Operation> = [Success<O, "application/json">] extends [never]
  ? Success<O, MediaType>
  : Success<O, "application/json">;

/** A successful answer: its parsed body, and the whole response with its headers, such as `ETag`. */
export interface Answer<T> {
  readonly data: T;
  readonly response: Response;
}

/** A call of one HTTP method, with parameters and body as the OpenAPI document says. */
export type Method<V extends Verb> = <
  Path extends PathsWithMethod<paths, V>,
  Init extends MaybeOptionalInit<paths[Path], V>,
>(
  path: Path,
  ...init: RequiredKeysOf<Init> extends never ? [(Init & CallOptions)?] : [Init & CallOptions]
) => Promise<Answer<ParseAsResponse<Body<NonNullable<paths[Path][V]>>, Init>>>;

/** An approved plan. */
export type Plan = NonNullable<ExecuteRequest["plan"]>;

/** A type of events. */
export type EventType = NonNullable<NonNullable<paths["/api/events"]["get"]["parameters"]["query"]>["type"]>[number];

/** The answer to `execute`: the export, and whether the answer repeats the first one to the same key. */
export interface Execution {
  readonly export: ExportView;
  readonly replayed: boolean;
}

/** The media types of the files that a conversation takes, by the end of the name. */
const MEDIA_TYPES: ReadonlyMap<string, string> = new Map([
  ["pdf", "application/pdf"],
  ["png", "image/png"],
  ["jpg", "image/jpeg"],
  ["jpeg", "image/jpeg"],
  ["csv", "text/csv"],
  ["xml", "application/xml"],
]);

const ENDED: ReadonlySet<string> = new Set(["executed", "failed", "cancelled", "superseded"]);

/** The API at `url`. Each call throws ApiProblem if the API refuses it, and ApiUnreachable if it does not answer in time. */
export class Exports {
  readonly GET: Method<"get">;
  readonly POST: Method<"post">;
  readonly PATCH: Method<"patch">;
  readonly DELETE: Method<"delete">;
  readonly #transport: Transport;

  constructor(options: ExportsOptions) {
    this.#transport = new Transport(options);
    this.GET = this.#method("get");
    this.POST = this.#method("post");
    this.PATCH = this.#method("patch");
    this.DELETE = this.#method("delete");
  }

  /**
   * Execute an approved plan; the same plan always gives the same export, whatever the key.
   *
   * With `waitSeconds` the answer comes when the export has ended, or after that time.
   */
  async execute(
    plan: Plan,
    options: CallOptions & {
      readonly idempotencyKey?: string;
      readonly waitSeconds?: number;
      readonly upstream?: string;
    } = {},
  ): Promise<Execution> {
    const { idempotencyKey, waitSeconds, upstream, ...rest } = options;
    const { data, response } = await this.POST("/api/exports/execute", {
      ...rest,
      params: {
        header: {
          ...(idempotencyKey === undefined ? {} : { "Idempotency-Key": idempotencyKey }),
          ...(waitSeconds === undefined ? {} : { Prefer: `wait=${Math.round(waitSeconds)}` }),
        },
      },
      body: { accountId: plan.accountId, batchId: plan.batchId, plan, ...(upstream === undefined ? {} : { upstream }) },
    });
    return { export: data, replayed: response.headers.get("Idempotent-Replayed") === "true" };
  }

  /**
   * Return an export once it has ended: executed, failed, cancelled or superseded. It is named by its id or its batch's id.
   *
   * Throws StillRunning after `timeoutMs`; without it, the call waits as long as the export runs.
   */
  async waitForExport(
    id: string,
    options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {},
  ): Promise<ExportView> {
    const deadline = options.timeoutMs === undefined ? undefined : AbortSignal.timeout(options.timeoutMs);
    const signals = [options.signal, deadline].filter((each) => each !== undefined);
    const call = { params: { path: { id } }, signal: AbortSignal.any(signals) };
    try {
      for (;;) {
        const { data: found } = await this.GET("/api/exports/{id}", call);
        if (ENDED.has(found.state)) return found;
        // A batch may get a newer revision, so the log is that of the export just read.
        for await (const event of this.events(found.exportId, {
          after: found.events.at(-1)?.seq ?? 0,
          signal: call.signal,
        })) {
          if (event.type.startsWith("EXPORT_")) break;
        }
      }
    } catch (error) {
      if (deadline?.aborted && !options.signal?.aborted) {
        throw new StillRunning(`${id} was still running after ${options.timeoutMs} ms`);
      }
      throw error;
    }
  }

  /**
   * Yield each event as it happens, past ones first; a broken stream continues after the last event.
   *
   * It ends when the export has ended, its deliveries are done, and the customs broker has answered or is overdue.
   */
  events(
    id: string,
    options: { readonly after?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<EventView, void, undefined> {
    const open = async (lastSeq: number, signal: AbortSignal): Promise<Response> => {
      const { response } = await this.#transport.attempt("get", "/api/exports/{id}/events", {
        parseAs: "stream",
        headers: { Accept: "text/event-stream" },
        params: { path: { id }, header: { "Last-Event-ID": lastSeq } },
        signal,
      });
      return response;
    };
    return followEvents(open, (event: EventView) => event.seq, options.after ?? 0, options.signal);
  }

  /**
   * Yield each event of all exports of the account as it happens, past ones first, after the event with the id `after`.
   *
   * It never ends; a broken stream continues after the last event. `types` leaves out other events.
   */
  accountEvents(
    options: { readonly after?: string; readonly types?: readonly EventType[]; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<FeedEventView, void, undefined> {
    const open = async (after: string | undefined, signal: AbortSignal): Promise<Response> => {
      const { response } = await this.#transport.attempt("get", "/api/events", {
        parseAs: "stream",
        headers: { Accept: "text/event-stream" },
        params: {
          query: { ...(options.types && { type: [...options.types] }) },
          header: { ...(after !== undefined && { "Last-Event-ID": after }) },
        },
        signal,
      });
      return response;
    };
    return followEvents(open, (event: FeedEventView) => event.id, options.after, options.signal);
  }

  /** Return a document's bytes; throws Corrupted if they do not have the hash that the export names. */
  async download(artifact: Pick<ArtifactView, "id" | "filename" | "sha256">, options: CallOptions = {}): Promise<Uint8Array> {
    const { data } = await this.GET("/api/artifacts/{id}", {
      ...options,
      parseAs: "arrayBuffer",
      params: { path: { id: artifact.id } },
    });
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    if (Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") !== artifact.sha256) {
      throw new Corrupted(`${artifact.filename} (${artifact.id}) arrived with another hash than the export names`);
    }
    return new Uint8Array(data);
  }

  /**
   * Send a file about an export, or about a handoff as its customs broker, and return it. A message or an answer then names
   * its id in `attachments`; a repeat returns the same id.
   *
   * Throws InvalidArgument if the end of its name is not that of a PDF, PNG, JPEG, CSV or XML file.
   */
  async attach(
    about: { readonly exportId: string } | { readonly submissionId: string },
    filename: string,
    content: Uint8Array | Blob,
    options: CallOptions = {},
  ): Promise<AttachmentView> {
    const mediaType = MEDIA_TYPES.get(filename.split(".").at(-1)?.toLowerCase() ?? "");
    if (mediaType === undefined) {
      throw new InvalidArgument("filename", `must end with one of .${[...MEDIA_TYPES.keys()].join(", .")}`);
    }
    const [path, id] =
      "exportId" in about
        ? (["/api/exports/{id}/attachments", about.exportId] as const)
        : (["/api/broker-submissions/{id}/attachments", about.submissionId] as const);
    const { data } = await this.#transport.perform("post", path, {
      ...options,
      headers: { "Content-Type": mediaType },
      params: { path: { id }, query: { filename } },
      body: content,
      bodySerializer: (body: unknown) => body,
    });
    return data as AttachmentView;
  }

  #method<V extends Verb>(verb: V): Method<V> {
    const method = (path: string, init: Init = {}) => this.#transport.perform(verb, path, init);
    // openapi-fetch gives what the document says; errors are thrown, so they are not in the type.
    return method as unknown as Method<V>;
  }
}
