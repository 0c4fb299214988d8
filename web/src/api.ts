/** The API of the server, which the page calls at its own origin. */

import { decodeVector, type Dtype, pack } from "./encodings.ts";
import type { Matrix } from "./math.ts";

export interface Model {
  id: string;
  root: string;
  status: "loaded" | "unloaded" | "loading" | "failed" | "upstream";
  aliases: string[];
  dimensions: number | null;
  allowed_dimensions: number[] | null;
  max_tokens: number | null;
  tasks: string[] | null;
  dtype: string | null;
  fingerprint: string | null;
  reason: string | null;
  prompts: Record<string, string> | null;
}

export interface Token {
  id: number;
  token: string;
  start: number | null;
  end: number | null;
  kept: boolean;
}

export interface Tokenized {
  ids: number[];
  count: number;
  truncated: boolean;
  text: string;
  tokens: Token[];
  max_tokens: number;
  space: string;
}

export interface ModelStats {
  id: string;
  requests: number;
  inputs: number;
  tokens: number;
  batch_tokens: number;
  batches: number;
  batch_limit: number;
  cache_hits: number;
  cache_misses: number;
  queue_tokens: number;
  errors: number;
  weight_bytes: number;
}

export interface Stats {
  uptime: number;
  in_flight: number;
  connections: number | null;
  memory_bytes: number | null;
  queued_bytes: number;
  cache_bytes: number;
  latency: { bounds: number[]; counts: number[]; seconds: number };
  models: ModelStats[];
}

/** A batch job, as OpenAI's API describes it. */
export interface Batch {
  id: string;
  status: string;
  endpoint: string;
  created_at: number;
  request_counts?: { total: number; completed: number; failed: number } | null;
  /** Why it failed, or what it waits for. */
  errors?: { data: { message: string; line: number | null }[] } | null;
  /** Name of the API key that it belongs to; only an admin key gets it. */
  owner?: string;
}

/** One text to embed. */
export interface Line {
  text: string;
  task: string;
  title: string;
}

export interface Embedded {
  vectors: Matrix;
  /** Inputs that were cut to the limit of the model. */
  truncated: number;
  tokens: number;
  space: string;
}

/** An error whose message is a sentence for the user: the server's own, or one about the connection. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status = 0,
    readonly code = "",
    readonly inputIndex: number | null = null,
  ) {
    super(message);
  }
}

export const INPUTS_PER_REQUEST = 128;

/** A connection to the server. The key exists only here, in memory. */
export class Api {
  key = "";

  /** Send one request; return the response, whose status is a success. */
  async send(path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers["content-type"] = "application/json";
    if (this.key) headers["authorization"] = `Bearer ${this.key}`;
    let response: Response;
    try {
      response = await fetch(new URL(path, document.baseURI), {
        method: body === undefined ? "GET" : "POST",
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal ? { signal } : {}),
        cache: "no-store",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      if (error instanceof TypeError && /header|ByteString|ISO-8859-1/i.test(error.message)) {
        throw new ApiError("The API key has a character that no key has. Type the key again.", 401, "invalid_api_key");
      }
      throw new ApiError("The server does not answer. Check that it runs, then try again.");
    }
    if (response.ok) return response;
    throw await failure(response);
  }

  async get<T>(path: string): Promise<T> {
    return (await (await this.send(path)).json()) as T;
  }

  async models(): Promise<Model[]> {
    return (await this.get<{ data: Model[] }>("v1/models")).data;
  }

  /** Load or unload a model. */
  async manage(action: "load" | "unload", model: string): Promise<void> {
    await this.send(`v1/models/${action}`, { model_id: model });
  }

  /** Return a text as the model reads it. */
  async tokenize(model: string, line: Line, signal?: AbortSignal): Promise<Tokenized> {
    const body = { model, input: [line.text], ...prompted(line.task, [line.title]), return_tokens: true };
    const response = await this.send("v1/tokenize", body, signal);
    const answer = (await response.json()) as { data: [Omit<Tokenized, "max_tokens" | "space">]; max_tokens: number };
    const space = response.headers.get("x-embergem-space") ?? "";
    return { ...answer.data[0], max_tokens: answer.max_tokens, space };
  }

  /**
   * Embed lines in order, in requests of `INPUTS_PER_REQUEST` that have one task each. Texts over the limit are cut and
   * counted. A model that is loading is waited for.
   */
  async embed(
    model: string,
    lines: readonly Line[],
    options: { dimensions?: number; dtype?: Dtype; progress?: (done: number) => void; signal?: AbortSignal } = {},
  ): Promise<Embedded> {
    const { dimensions, dtype = "float32", progress, signal } = options;
    const vectors = new Array<Float32Array>(lines.length);
    let [done, truncated, tokens, space] = [0, 0, 0, ""];
    for (const indices of requests(lines)) {
      const part = indices.map((index) => lines[index]!);
      const body = {
        model,
        input: part.map((line) => line.text),
        ...prompted(part[0]!.task, part.map((line) => line.title)),
        truncate_sequence: true,
        encoding_format: "base64",
        encoding_dtype: dtype,
        ...(dimensions === undefined ? {} : { dimensions }),
      };
      const response = await this.sendWhenLoaded(body, signal, indices);
      const answer = (await response.json()) as {
        data: { embedding: string; truncated: boolean }[];
        usage: { total_tokens: number };
      };
      answer.data.forEach((item, place) => {
        vectors[indices[place]!] = decodeVector(item.embedding, dtype);
        if (item.truncated) truncated++;
      });
      tokens += answer.usage.total_tokens;
      space = response.headers.get("x-embergem-space") ?? "";
      done += part.length;
      progress?.(done);
    }
    return { vectors: pack(vectors), truncated, tokens, space };
  }

  /** Send a request for vectors; while the model is loading, try again when the server says. */
  private async sendWhenLoaded(body: unknown, signal: AbortSignal | undefined, indices: number[]): Promise<Response> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.send("v1/embeddings", body, signal);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.code !== "model_loading" || attempt >= 60) throw inRequest(error, indices);
        await new Promise((resolve) => setTimeout(resolve, 1000));
        signal?.throwIfAborted();
      }
    }
  }
}

/** Return the fields of a prompt: no task embeds a text as it is, even where the server has a default task. */
function prompted(task: string, titles: readonly string[]): Record<string, unknown> {
  if (task === "") return { prompt: "" };
  return titles.some((title) => title !== "") ? { task, title: titles.map((title) => title || null) } : { task };
}

/** Divide the indices of lines into requests: one task each, and a bounded number of inputs. */
export function requests(lines: readonly Line[]): number[][] {
  const byTask = new Map<string, number[]>();
  lines.forEach((line, index) => {
    const titled = line.title === "" ? line.task : `${line.task}\n`;
    const group = byTask.get(titled);
    if (group) group.push(index);
    else byTask.set(titled, [index]);
  });
  const found: number[][] = [];
  for (const indices of byTask.values()) {
    for (let start = 0; start < indices.length; start += INPUTS_PER_REQUEST) {
      found.push(indices.slice(start, start + INPUTS_PER_REQUEST));
    }
  }
  return found;
}

/** Return an error that names the line at fault by its number on the page instead of its index in the request. */
function inRequest(error: ApiError, indices: readonly number[]): ApiError {
  if (error.inputIndex === null) return error;
  const line = (indices[error.inputIndex] ?? error.inputIndex) + 1;
  const message = error.message.replace(/^Input \d+/, `Line ${line}`);
  return new ApiError(message, error.status, error.code, line - 1);
}

/** Read the server's error; an answer that is not the server's own, such as a proxy's, becomes a sentence. */
async function failure(response: Response): Promise<ApiError> {
  try {
    const { error } = (await response.json()) as {
      error: { message: string; code?: string | null; input_index?: number };
    };
    return new ApiError(error.message, response.status, error.code ?? "", error.input_index ?? null);
  } catch {
    return new ApiError(`The server answered with status ${response.status} and no reason. Its log may have one.`);
  }
}
