/** What was found out about a picture, as terms and lines for people: beside the viewer, under a strip. */

import { type Proof } from "../net/part.js";

export type Fact = readonly [term: string, ...lines: string[]];

/** What keeps rows from being proven. */
export function lacksOf(proofs: readonly Proof[]): Fact[] {
  const facts: Fact[] = [];
  const unproven = proofs.reduce((n, proof) => n + proof.unprovenRows, 0);
  if (unproven > 0) facts.push(["Rows that nothing can show yet", `${unproven}: they stand in a page of 10 s that is not whole, at the edge of the grant or of the present`]);
  const lacks = new Set(proofs.flatMap((proof) => proof.lacks ?? []));
  if (lacks.size > 0) facts.push(["The log holds it, but its checkpoint lacks", ...lacks]);
  return facts;
}

/** How it is drawn. */
export function drawingOf(gaps: number, clocks: Iterable<string>): Fact[] {
  const facts: Fact[] = [["Gaps in the picture", gaps === 0 ? "none" : `${gaps}, hatched; no line crosses them`]];
  const known = [...new Set(clocks)];
  if (known.length > 0) facts.push(["The device's clock", known.join(", ")]);
  return [...facts, ["Filter", "none: samples are drawn as they were recorded"]];
}
