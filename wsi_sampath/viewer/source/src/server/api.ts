// The one way to the server: JSON in, JSON out, and errors as one sentence.
import { heard } from "./connection";

/** A refusal: what the server said, or that it did not answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
    readonly body: unknown = null,
  ) {
    super(message);
  }
}

const LOST = "The server does not answer. Is wsi-view still running?";

async function refusal(answer: Response): Promise<ApiError> {
  let body: unknown = null;
  try {
    body = await answer.json();
  } catch {
    // Not JSON: the status has to do.
  }
  const error = (body as { error?: { reason?: string; message?: string } } | null)?.error;
  const message = error?.message ?? `The server answered ${answer.status}.`;
  return new ApiError(answer.status, error?.reason ?? "unknown", message, body);
}

/** Fetch, where what is not a success is an `ApiError`; an abort stays an abort. */
export async function request(url: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") {
      throw error;
    }
    heard(0);
    throw new ApiError(0, "unreachable", LOST);
  }
  heard(answer.status);
  if (!answer.ok) {
    throw await refusal(answer);
  }
  return answer;
}

export async function get<T>(url: string, signal?: AbortSignal): Promise<T> {
  const answer = await request(url, signal ? { signal } : {});
  return (await answer.json()) as T;
}

export async function post<T>(url: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const answer = await request(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...(signal ? { signal } : {}),
  });
  return (answer.status === 204 ? null : await answer.json()) as T;
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** An error as a sentence for people. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
