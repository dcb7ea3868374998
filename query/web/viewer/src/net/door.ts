/** The way to the server: each request signed anew, over exactly the target that is sent; answers bounded in bytes. */

import { hex } from "chordae-chain";
import { type Keys, token } from "./keys.js";

/** The server said no, and why. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    /** After how many seconds it may be asked again. */
    readonly retryS: number,
  ) {
    super(detail);
  }

  /** The grant is over, or never was: nothing that it let the reader see may stay on the screen. */
  get ends(): boolean {
    return [401, 403, 404].includes(this.status);
  }
}

export class Door {
  constructor(
    readonly keys: Keys,
    readonly origin: string,
    readonly session: string | null,
    private readonly base: string = globalThis.location?.origin,
    /** Headers that go with each request; not signed. */
    private readonly always: Readonly<Record<string, string>> = {},
  ) {}

  get kid(): string {
    return this.keys.kid;
  }

  /** The same key on a session. */
  on(session: string | null): Door {
    return new Door(this.keys, this.origin, session, this.base, this.always);
  }

  /** The same, with headers on each request. */
  saying(always: Readonly<Record<string, string>>): Door {
    return new Door(this.keys, this.origin, this.session, this.base, always);
  }

  /** An answer whose body the caller reads. Throws {@link Refusal}. */
  async open(target: string, headers: Record<string, string> = {}, signal?: AbortSignal): Promise<Response> {
    const { url, authorization } = await this.signed("GET", target);
    return this.ask(url, { headers: { ...headers, authorization }, signal: signal ?? null });
  }

  /** Sends a record that its own signature vouches for; no token goes with it. Throws {@link Refusal}. */
  async sendRecord(method: "POST" | "DELETE", target: string, record: Uint8Array): Promise<void> {
    const headers = { "content-type": "application/cbor" };
    const answer = await this.ask(new URL(target, this.base), { method, headers, body: new Uint8Array(record) });
    await answer.body?.cancel();
  }

  /** An operator's change: its token covers the body. Throws {@link Refusal}. */
  async change(target: string, body: unknown): Promise<void> {
    const text = new TextEncoder().encode(JSON.stringify(body));
    const digest = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", text)));
    const { url, authorization } = await this.signed("POST", target, digest);
    const answer = await this.ask(url, { method: "POST", headers: { authorization, "content-type": "application/json" }, body: text });
    await answer.body?.cancel();
  }

  /** What is signed is what goes out, after the browser's own escaping. */
  private async signed(method: string, target: string, body?: string): Promise<{ url: URL; authorization: string }> {
    const url = new URL(target, this.base);
    const sent = { origin: this.origin, session: this.session, method, target: url.pathname + url.search, ...(body === undefined ? {} : { body }) };
    return { url, authorization: `Chordae ${await token(this.keys, sent, Date.now())}` };
  }

  private async ask(url: URL, request: RequestInit): Promise<Response> {
    const headers = { ...this.always, ...request.headers };
    const answer = await fetch(url, { ...request, headers, cache: "no-store", redirect: "error" });
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }

  /** A body of at most `bytesMax` bytes, and the headers. */
  async get(target: string, bytesMax: number, signal?: AbortSignal): Promise<[Uint8Array, Headers]> {
    const answer = await this.open(target, {}, signal);
    const pieces: Uint8Array[] = [];
    let size = 0;
    for await (const piece of piecesOf(answer)) {
      size += piece.length;
      if (size > bytesMax) throw new Error(`the answer is longer than ${bytesMax} bytes`);
      pieces.push(piece);
    }
    const body = new Uint8Array(size);
    let at = 0;
    for (const piece of pieces) {
      body.set(piece, at);
      at += piece.length;
    }
    return [body, answer.headers];
  }

  async text(target: string, bytesMax: number, signal?: AbortSignal): Promise<string> {
    return new TextDecoder().decode((await this.get(target, bytesMax, signal))[0]);
  }
}

/** The pieces of a body; leaving the loop lets the connection go. */
export async function* piecesOf(answer: Response): AsyncGenerator<Uint8Array> {
  const reader = answer.body?.getReader();
  try {
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done || !value) return;
      yield value;
    }
  } finally {
    await reader?.cancel().catch(() => undefined);
  }
}

async function refusal(answer: Response): Promise<Refusal> {
  const said = await answer.json().catch(() => ({}));
  const { type, detail } = (said ?? {}) as Record<string, unknown>;
  const code = String(type ?? "").split(":").at(-1) ?? "";
  const wait = Number(answer.headers.get("retry-after") ?? 1);
  return new Refusal(answer.status, code, String(detail ?? answer.statusText), Number.isFinite(wait) ? wait : 1);
}
