/** The page's side of the worker that hashes. */

import { type Span } from "../core/time.js";
import { type Part, type Question } from "./part.js";
import { type Judge } from "./loader.js";

/** What is asked of the worker. */
export type Work = { readonly id: number } & Task;

type Task =
  | { kind: "rows"; answer: Uint8Array; bundle: string; asked: Question; trust: string }
  | { kind: "summary"; answer: Uint8Array; level: number; asked: Question; gaps: Span[] }
  | { kind: "metadata"; bundle: string; asked: Question; trust: string };

interface Waiting {
  done(part: never): void;
  failed(why: Error): void;
}

/** As many answers wait here as the loader lets fly. */
export class WorkerJudge implements Judge {
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;

  constructor(
    private readonly worker: Worker,
    private readonly trust: string,
  ) {
    worker.onmessage = ({ data }: MessageEvent<{ id: number; part?: never; failed?: string }>) => {
      const one = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.part) one?.done(data.part);
      else one?.failed(new Error(data.failed ?? "the worker said nothing"));
    };
    worker.onerror = (e) => {
      for (const one of this.waiting.values()) one.failed(new Error(e.message || "the worker broke"));
      this.waiting.clear();
    };
  }

  rows(answer: Uint8Array, bundle: string, asked: Question): Promise<Part> {
    return this.ask({ kind: "rows", answer, bundle, asked, trust: this.trust }, [answer.buffer as ArrayBuffer]);
  }

  summary(answer: Uint8Array, level: number, asked: Question, gaps: Span[]): Promise<Part> {
    return this.ask({ kind: "summary", answer, level, asked, gaps }, [answer.buffer as ArrayBuffer]);
  }

  metadata(bundle: string, asked: Question): Promise<Pick<Part, "qualities" | "proof">> {
    return this.ask({ kind: "metadata", bundle, asked, trust: this.trust }, []);
  }

  close(): void {
    this.worker.terminate();
  }

  private ask<T>(task: Task, moved: Transferable[]): Promise<T> {
    const id = this.next++;
    return new Promise<T>((done, failed) => {
      this.waiting.set(id, { done: done as (part: never) => void, failed });
      this.worker.postMessage({ id, ...task }, moved);
    });
  }
}
