/** What a check found wrong: the object, one of the codes of `chordae verify --json`, and a line for people. */

/** Findings that one report keeps; a flood of further ones is told as one. */
const FINDINGS_MAX = 10_000;

/** The codes that a bundle's check can give; their spelling is interface. */
export type Code =
  | "pages-digest"
  | "link-prev"
  | "index-gap"
  | "duplicate-index"
  | "metadata"
  | "entry-signature"
  | "log-root"
  | "checkpoint-signature";

/** One thing that is wrong. */
export interface Finding {
  /** What it is about: an object name, the anchor, the answer. */
  readonly object: string;
  readonly code: Code;
  readonly detail: string;
}

/** A bounded list of findings. */
export class Findings {
  readonly all: Finding[] = [];

  add(object: string, code: Code, detail: string): void {
    const told = this.all.length < FINDINGS_MAX ? detail : "and more like the ones before";
    if (this.all.length <= FINDINGS_MAX) this.all.push({ object, code, detail: told });
  }
}
