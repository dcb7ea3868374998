/**
 * From what the server sent to what may be drawn. Runs in a worker, so that hashing never holds up a frame.
 *
 *     rows + bundle + trust file ─▶ the twin ─▶ standing, findings
 *                                     └▶ proven metadata ─▶ scales, gaps, clock quality
 *
 * Rows that do not match their proof are not handed out: a clinician must not read them by mistake.
 */

import {
  type Asked, BadInput, type BundleVerdict, type ChunkMeta, type Finding, type ProofBundle, type TrustFile,
  parseBundle, parseDid, parseMeta, parseTrust, verify, verifyMetadata,
} from "chordae-chain"; // prettier-ignore
import { type Quality, type Run, bands, gapsOf } from "../core/gaps.js";
import { bucketOf } from "../core/tiles.js";
import { type Span, msOf } from "../core/time.js";
import { type Claim, type LeadPart, type Part, type Proof, type Question, UNKNOWN, bare, wrong } from "./part.js";
import { type Rows, readRows } from "./rows.js";

/** How far the server's clock may lie behind ours before an answer up to its now counts as cut short. */
const SKEW_NS = 60_000_000_000n;
const SECOND_MS = 1000;

/** Judges a window of rows as recorded. */
export function judgeRows(answer: Uint8Array, bundleText: string, asked: Question, trustText: string): Part {
  const [rows, bundle] = [readRows(answer), parseBundle(bundleText)];
  covers(bundle, asked);
  const question: Asked = { did: parseDid(asked.did), ...(asked.leads ? { leads: asked.leads } : {}) };
  const verdict = verify(bundle, rows, question, trusted(trustText));
  const metas = metasOf(bundle);
  const findings = [...verdict.findings, ...scales(rows, metas)];
  const window = { from: msOf(bundle.fromNs), until: msOf(bundle.untilNs) };
  const proof = proofOf(verdict, findings, bundle);
  if (findings.length > 0) return bare(window, proof);
  const known = new Map(metas.map((meta) => [meta.index, meta]));
  const runs: Run[] = bundle.rows.map(([index, count]) => ({ rows: Number(count), step: stepOf(known.get(index)) }));
  const times = Float64Array.from(rows.times, msOf);
  return {
    times,
    leads: partsOf(rows, (i) => [rows.codes[i], rows.codes[i]], (i) => rows.leads[i]),
    apart: 1.5 * Math.max(...runs.map((run) => run.step), 0),
    window,
    gaps: gapsOf(times, runs, window),
    qualities: bands(metas.map(qualityOf)),
    proof,
  };
}

/** Reads a summary. There is no proof of one. */
export function readSummary(answer: Uint8Array, level: number, asked: Question, listed: readonly Span[]): Part {
  const rows = readRows(answer);
  const times = Float64Array.from(rows.times, msOf);
  const window = { from: msOf(asked.fromNs), until: msOf(asked.untilNs < asked.askedNs ? asked.untilNs : asked.askedNs) };
  // Slow samples can be further apart than buckets.
  const step = Math.max(bucketOf(level), rows.rate ? SECOND_MS / rows.rate : 0);
  const name = (i: number) => rows.leads[2 * i]?.replace(/~min$/, "");
  const halves = { ...rows, claims: rows.claims.filter((_, i) => i % 2 === 0) };
  return {
    times,
    leads: partsOf(halves, (i) => [rows.codes[2 * i], rows.codes[2 * i + 1]], name),
    apart: 1.5 * step,
    window,
    gaps: [...gapsOf(times, [{ rows: times.length, step }], window), ...listed],
    qualities: [],
    proof: { ...UNKNOWN, standing: times.length > 0 ? "summary" : "empty" },
  };
}

/** Judges links and metadata behind a summary: they say what the clocks were, and contradict each other or not. */
export function judgeMetadata(bundleText: string, asked: Question, trustText: string): Pick<Part, "qualities" | "proof"> {
  const bundle = parseBundle(bundleText);
  covers(bundle, asked);
  const { verdict, known } = verifyMetadata(bundle, { did: parseDid(asked.did) }, trusted(trustText));
  const proof = proofOf(verdict, verdict.findings, bundle);
  const standing = proof.standing === "mismatch" || proof.standing === "empty" ? proof.standing : "summary";
  return { qualities: bands(known.map(({ meta }) => qualityOf(meta))), proof: { ...proof, standing } };
}

/** What a judge says; input that cannot be read, or is not what was asked for, is a mismatch as well. */
export function orWrong<T>(asked: Question, judge: () => T): T | Part {
  try {
    return judge();
  } catch (e) {
    if (!(e instanceof BadInput)) throw e;
    const window = { from: msOf(asked.fromNs), until: msOf(asked.untilNs) };
    return wrong(window, { object: "answer", code: "metadata", detail: e.message });
  }
}

let last: { text: string; trust: TrustFile } | undefined;

/** The trust file, read once. */
function trusted(text: string): TrustFile {
  if (last?.text !== text) last = { text, trust: parseTrust(text) };
  return last.trust;
}

/** An answer ends at the server's now; it may not be for another window, nor end for no reason. */
function covers({ fromNs, untilNs }: ProofBundle, asked: Question): void {
  const due = asked.untilNs < asked.askedNs - SKEW_NS ? asked.untilNs : asked.askedNs - SKEW_NS;
  if (fromNs !== asked.fromNs || untilNs > asked.untilNs || untilNs < due) {
    throw new BadInput("the answer is not for the window that was asked for");
  }
}

function metasOf(bundle: ProofBundle): ChunkMeta[] {
  try {
    return bundle.chunks.map((chunk) => parseMeta(chunk.meta));
  } catch {
    // The verdict has it among its findings.
    return [];
  }
}

/** A proof is about codes; a clinician reads millivolts: what the answer says of them must be what its chunks say. */
function scales(rows: Rows, metas: ChunkMeta[]): Finding[] {
  const differs = (name: string, claim: Claim | null) =>
    metas
      .flatMap((meta) => meta.leads.filter((lead) => lead.name === name))
      .some((l) => l.gain !== claim?.gain || l.baseline !== claim.baseline || l.unit !== claim.unit);
  const other = rows.leads.filter((name, i) => differs(name, rows.claims[i] ?? null));
  const detail = (name: string) => `the scale of lead ${name} is not that of its chunks`;
  return other.map((name) => ({ object: "answer", code: "metadata", detail: detail(name) }));
}

function proofOf(verdict: BundleVerdict, findings: readonly Finding[], bundle: ProofBundle): Proof {
  const anchored = verdict.verdict === "anchored" && verdict.unprovenRows === 0 && verdict.newer.length === 0;
  const standing = findings.length > 0 ? "mismatch" : bundle.chunks.length === 0 ? "empty" : anchored ? "anchored" : "linked";
  return {
    standing,
    findings,
    unprovenRows: verdict.unprovenRows,
    newer: verdict.newer.length,
    anchoredTo: verdict.anchoredTo?.toString() ?? null,
    logSize: verdict.receipt?.checkpoint.size.toString() ?? null,
    lacks: verdict.lacks,
    chunks: bundle.chunks.length,
  };
}

function partsOf(
  { claims }: Pick<Rows, "claims">,
  codes: (i: number) => (Int32Array | undefined)[],
  name: (i: number) => string | undefined,
): LeadPart[] {
  return claims.flatMap((claim, i) => {
    const [[low, high], called] = [codes(i), name(i)];
    return claim && low && high && called !== undefined ? [{ ...claim, name: called, low, high }] : [];
  });
}

function stepOf(meta: ChunkMeta | undefined): number {
  return meta ? (SECOND_MS * Number(meta.rate[1])) / Number(meta.rate[0]) : 0;
}

function qualityOf(meta: ChunkMeta): Quality {
  return { from: msOf(meta.firstNs), until: msOf(meta.endNs), quality: meta.clock.quality };
}
