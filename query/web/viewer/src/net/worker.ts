/** The worker's side: one message, one answer. Everything it knows comes in the message. */

import { judgeMetadata, judgeRows, orWrong, readSummary } from "./judge.js";
import { type Part } from "./part.js";
import { type Work } from "./worker_judge.js";

interface Scope {
  onmessage: ((event: MessageEvent<Work>) => void) | null;
  postMessage(message: unknown, transfer?: Transferable[]): void;
}

const scope = globalThis as unknown as Scope;

scope.onmessage = ({ data: work }) => {
  try {
    const part = done(work);
    // The arrays move, they are not copied. A lead's two arrays may be one.
    const buffers = "times" in part ? [part.times, ...part.leads.flatMap(({ low, high }) => [low, high])] : [];
    scope.postMessage({ id: work.id, part }, [...new Set(buffers.map((one) => one.buffer as ArrayBuffer))]);
  } catch (e) {
    scope.postMessage({ id: work.id, failed: e instanceof Error ? e.message : String(e) });
  }
};

function done(work: Work): Part | Pick<Part, "qualities" | "proof"> {
  return orWrong<Part | Pick<Part, "qualities" | "proof">>(work.asked, () => {
    switch (work.kind) {
      case "rows":
        return judgeRows(work.answer, work.bundle, work.asked, work.trust);
      case "summary":
        return readSummary(work.answer, work.level, work.asked, work.gaps);
      case "metadata":
        return judgeMetadata(work.bundle, work.asked, work.trust);
    }
  });
}
