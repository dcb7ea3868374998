/**
 * The judge of a proof bundle: a pure function of bundle, answer, question and trust, with the verdicts and the codes
 * of `anchor/chain/src/bundle/verify.rs`.
 *
 * Nothing in the bundle is believed; each claim leads, over digests, to the signed entry in the trusted log, or the
 * verdict is not `anchored`. A page that the window cuts proves nothing: its rows are counted. A chunk that was linked
 * after the newest listed one is told in `newer`: whoever asked asks again, or calls the answer incomplete.
 */

import { BadInput, concat, equal } from "./bytes.js";
import { type BundleAnchor, type BundleChunk, type BundlePage, type HeadPath, type ProofBundle } from "./bundle.js";
import { type SignedEvent, decode as decodeEvent, signedBy } from "./event.js";
import { type Code, type Finding, Findings } from "./finding.js";
import { type Link, PAGE_NS, genesis, meets, objectName, provablePages, tag } from "./link.js";
import { included, leafHash } from "./merkle.js";
import { type ChunkMeta, differs, parse as parseMeta } from "./meta.js";
import { NO_VALUE, colLead, colTimes, leaf, pagesRoot } from "./pages.js";
import { open as openCheckpoint } from "./policy.js";
import { type Receipt, holds, parse as parseReceipt } from "./receipt.js";
import { type TrustFile, countsUpto, provider } from "./trust.js";

/** The rows of an answer as ADC codes: by time, then by index of their chunk. */
export interface AnswerRows {
  readonly leads: string[];
  /** One per row, nanoseconds since 1970. */
  readonly times: BigInt64Array;
  /** Per lead one code per row, {@link NO_VALUE} where there is none. */
  readonly codes: Int32Array[];
}

/** What the reader asked for. Where it is not known, the bundle's own word is taken. */
export interface Asked {
  readonly did?: Uint8Array;
  /** After snapping or clipping. */
  readonly window?: { readonly fromNs: bigint; readonly untilNs: bigint };
  /** Absent: all that the chunks have. */
  readonly leads?: string[];
}

/** How far an answer is proven. */
export interface BundleVerdict {
  /** `unanchored`: nothing is wrong, but nothing leads to a trusted log (not anchored or cosigned yet, or no trust). */
  readonly verdict: "anchored" | "unanchored" | "damaged";
  /** Rows in pages that the window cuts: they may be right, nothing shows it. */
  readonly unprovenRows: number;
  /** Chunks of the window that were linked after the newest one listed: the answer lacks them. */
  readonly newer: bigint[];
  /** Index of the anchored link; null unless the verdict is `anchored`. */
  readonly anchoredTo: bigint | null;
  /** The log holds the entry, but its checkpoint is not cosigned as the policy demands: what it lacks, for people. */
  readonly lacks: string | null;
  /** The receipt behind it. */
  readonly receipt: Receipt | null;
  /** Everything that is wrong. */
  readonly findings: Finding[];
}

/** A chunk of which link and metadata are known, and no row. */
export interface KnownChunk {
  readonly link: Link;
  readonly meta: ChunkMeta;
}

/** Judges an answer by its bundle. Without a trust file no verdict is better than `unanchored`. */
export function verify(bundle: ProofBundle, answer: AnswerRows, asked: Asked, trust: TrustFile | null): BundleVerdict {
  const judge = new Judge(bundle, answer, asked);
  const runs = judge.runs();
  for (const chunk of bundle.chunks) judge.chunk(chunk, runs.get(chunk.index) ?? []);
  return judge.conclude(trust);
}

/** Judges a bundle that shows links and metadata only (`pages=none`). The chunks are worth what the verdict says. */
export function verifyMetadata(
  bundle: ProofBundle,
  asked: Asked,
  trust: TrustFile | null,
): { readonly verdict: BundleVerdict; readonly known: KnownChunk[] } {
  const judge = new Judge(bundle, { leads: [], times: new BigInt64Array(), codes: [] }, asked);
  const known = bundle.chunks.map((chunk) => {
    if (chunk.pages.length > 0) judge.found(chunk.index, "pages-digest", "a bundle of metadata shows a page");
    return judge.metadata(chunk);
  });
  return { verdict: judge.conclude(trust), known: known.filter((one) => one !== undefined) };
}

type Run = readonly [number, number];

/** Whether an event names a link's tag and digest, itself or by the way to the root of its heads. */
function vouches({ fields }: SignedEvent, head: HeadPath | null, tag: Uint8Array, digest: Uint8Array): boolean {
  const field = (name: string) => fields.get(name) as Uint8Array;
  if (!head) return equal(field("tag"), tag) && equal(field("digest"), digest);
  const leaf = leafHash(concat(tag, digest));
  return included(fields.get("count") as bigint, field("root"), head.at, leaf, head.path);
}

class Judge {
  private readonly links: Map<bigint, Link>;
  private readonly listed: Set<bigint>;
  private readonly findings = new Findings();
  private readonly newer: bigint[];
  private unproven = 0;

  constructor(
    private readonly bundle: ProofBundle,
    private readonly answer: AnswerRows,
    private readonly asked: Asked,
  ) {
    this.links = new Map(bundle.links.map((link) => [link.index, link]));
    this.listed = new Set(bundle.chunks.map((chunk) => chunk.index));
    this.question();
    this.chain();
    this.newer = this.completeness();
  }

  found(where: bigint | string, code: Code, why: string): void {
    this.findings.add(typeof where === "string" ? where : objectName(this.bundle.did, where), code, why);
  }

  /** The bundle must be about what was asked, and the answer a table. */
  private question(): void {
    const { bundle, answer, asked } = this;
    const wrong = (is: boolean, why: string) => is && this.found("answer", "metadata", why);
    wrong(!!asked.did && !equal(asked.did, bundle.did), "the proof is about another stream than was asked for");
    const other = asked.window?.fromNs !== bundle.fromNs || asked.window.untilNs !== bundle.untilNs;
    wrong(!!asked.window && other, "the proof is about another window than was asked for");
    wrong(bundle.fromNs >= bundle.untilNs, "the window is empty");
    const table = answer.codes.length === answer.leads.length;
    const even = answer.codes.every((lead) => lead.length === answer.times.length);
    wrong(!table || !even, "the answer's columns do not have equal lengths");
    const leads = new Set(answer.leads);
    wrong(leads.size !== answer.leads.length, "the answer has a lead twice");
    const same = asked.leads?.every((l) => leads.has(l)) && answer.leads.every((l) => asked.leads?.includes(l));
    wrong(!!asked.leads && !same, "the answer does not have exactly the leads that were asked for");
  }

  /** Each link is what the next one names; the last one is the ledger's business. */
  private chain(): void {
    let before: Link | undefined;
    for (const link of this.bundle.links) {
      if (!equal(link.did, this.bundle.did)) this.found(link.index, "metadata", "the link belongs to another stream");
      if (link.index === 0n && !equal(link.prev, genesis(link.did))) {
        this.found(0n, "link-prev", "the first link does not begin its stream");
      }
      if (before && before.index + 1n !== link.index) {
        this.found(before.index, "index-gap", `link ${before.index} is followed by link ${link.index}`);
      }
      if (before && !equal(link.prev, before.digest)) {
        this.found(before.index, "link-prev", `link ${before.index} is not the one that link ${link.index} names`);
      }
      before = link;
    }
  }

  /** Every linked chunk that meets the window is listed, once, in order, or was linked later: those are returned. */
  private completeness(): bigint[] {
    const { links, chunks, fromNs, untilNs } = this.bundle;
    let newest: bigint | undefined;
    for (const { index } of chunks) {
      if (newest !== undefined && newest >= index) {
        this.found(index, "duplicate-index", "chunks are not listed once each by ascending index");
      }
      newest = newest === undefined || index > newest ? index : newest;
    }
    const lacking = links.filter((link) => meets(link, fromNs, untilNs) && !this.listed.has(link.index));
    const later = (link: Link) => newest !== undefined && link.index > newest;
    for (const link of lacking.filter((one) => !later(one))) {
      this.found(link.index, "index-gap", "the chunk meets the window and is left out");
    }
    return lacking.filter(later).map((link) => link.index);
  }

  /** The answer's row ranges per chunk; each row inside the window and in order. */
  runs(): Map<bigint, Run[]> {
    const runs = new Map<bigint, Run[]>();
    const { times } = this.answer;
    let at = 0;
    let before: readonly [bigint, bigint] | undefined;
    for (const [index, count] of this.bundle.rows) {
      if (count === 0n || count > BigInt(times.length - at)) {
        this.found("rows", "pages-digest", `the run [${index},${count}] is empty or longer than the answer`);
        return runs;
      }
      const end = at + Number(count);
      for (const t of times.subarray(at, end)) {
        const rising = before === undefined || before[0] < t || (before[0] === t && before[1] < index);
        if (!rising || t < this.bundle.fromNs || t >= this.bundle.untilNs) {
          this.found(index, "pages-digest", `the row at ${t} is outside the window or out of order`);
        }
        before = [t, index];
      }
      if (!this.listed.has(index)) {
        this.found(index, "pages-digest", "rows of the answer come from a chunk that is not listed");
      }
      const own = runs.get(index) ?? [];
      own.push([at, end]);
      runs.set(index, own);
      at = end;
    }
    if (at !== times.length) this.found("rows", "pages-digest", `${times.length - at} rows belong to no run`);
    return runs;
  }

  /** The chunk's link and metadata; metadata and all leaves must lead to the link's `pages_root`. */
  metadata(chunk: BundleChunk): KnownChunk | undefined {
    const link = this.links.get(chunk.index);
    if (!link) {
      this.found(chunk.index, "index-gap", "the chunk is listed but has no link");
      return undefined;
    }
    const meta = this.attempt(chunk.index, "metadata", () => parseMeta(chunk.meta));
    if (!meta) return undefined;
    const field = differs(meta, link);
    if (field !== undefined) this.found(chunk.index, "metadata", `metadata and link differ in ${field}`);
    const counted = BigInt(chunk.leaves.length) === link.slotLenNs / PAGE_NS;
    if (!counted || !equal(pagesRoot(chunk.meta, chunk.leaves), link.pagesRoot)) {
      this.found(chunk.index, "pages-digest", "metadata and leaves do not lead to the link's pages_root");
    }
    return { link, meta };
  }

  chunk(chunk: BundleChunk, runs: Run[]): void {
    const known = this.metadata(chunk);
    if (!known) return;
    const { link, meta } = known;
    const { answer, asked } = this;
    const lacks = meta.leads.find((lead) => !answer.leads.includes(lead.name));
    if (lacks && !asked.leads) {
      this.found(chunk.index, "pages-digest", `all leads were asked for and lead ${lacks.name} is left out`);
    }
    const times = cut(answer.times, runs, (n) => new BigInt64Array(n));
    const codes = answer.codes.map((lead) => cut(lead, runs, (n) => new Int32Array(n)));
    if (times.some((t) => t < link.firstNs || t >= link.endNs)) {
      this.found(chunk.index, "pages-digest", "the answer has rows before the chunk's first or after its last");
    }
    // Per lead of the chunk its codes, undefined where the answer does not have the lead; and the leads it has not.
    const leads = meta.leads.map((lead) => codes[answer.leads.indexOf(lead.name)]);
    const strange = codes.filter((_, i) => !meta.leads.some((lead) => lead.name === answer.leads[i]));
    this.pages(chunk, link, times, leads, strange);
  }

  /** Holds the rows against the shown pages; counts those that no page can prove. */
  private pages(
    chunk: BundleChunk,
    link: Link,
    times: BigInt64Array,
    leads: (Int32Array | undefined)[],
    strange: Int32Array[],
  ): void {
    const due = provablePages(link, this.bundle.fromNs, this.bundle.untilNs);
    const wrong = (why: string) => this.found(chunk.index, "pages-digest", why);
    let proven = 0;
    for (const p of due) {
      const page = chunk.pages.find((one) => one.p === p);
      if (!page) {
        wrong(`page ${p} lies inside the window and is not shown`);
        continue;
      }
      const start = link.slotStartNs + BigInt(p) * PAGE_NS;
      const [at, end] = [firstAt(times, start), firstAt(times, start + PAGE_NS)];
      proven += end - at;
      if (strange.some((lead) => lead.subarray(at, end).some((code) => code !== NO_VALUE))) {
        wrong(`page ${p} has values in a lead that the chunk does not have`);
      }
      const shown = leads.map((lead) => lead?.subarray(at, end));
      const computed = pageLeaf(page, times.subarray(at, end), shown);
      const listed = chunk.leaves[p];
      if (typeof computed === "string") wrong(`page ${p}: ${computed}`);
      else if (!listed || !equal(computed, listed)) wrong(`the rows of page ${p} are not the chunk's`);
    }
    if (chunk.pages.some((page, i) => page.p !== due[i])) {
      wrong("the pages shown are not those with rows wholly inside the window, in order");
    }
    this.unproven += times.length - proven;
  }

  /** Holds the last link against the ledger; the verdict. */
  conclude(trust: TrustFile | null): BundleVerdict {
    const { anchor, links } = this.bundle;
    const last = links.at(-1);
    if (anchor && !last) this.found("anchor", "link-prev", "there is an anchor but no link");
    const receipt = anchor && last ? this.anchor(anchor, last, trust) : undefined;
    const findings = this.findings.all;
    const lacks = receipt?.lacks ?? null;
    const anchored = findings.length === 0 && receipt !== undefined && lacks === null;
    return {
      verdict: findings.length > 0 ? "damaged" : anchored ? "anchored" : "unanchored",
      unprovenRows: this.unproven,
      newer: this.newer,
      anchoredTo: anchored && last ? last.index : null,
      lacks,
      receipt: anchored ? receipt : null,
      findings,
    };
  }

  /** The entry names the last link, a trusted provider signed it, the trusted log holds it. */
  private anchor({ entry, proof, head }: BundleAnchor, last: Link, trust: TrustFile | null): Receipt | undefined {
    const event = this.attempt("anchor", "entry-signature", () => decodeEvent(entry));
    if (!event) return undefined;
    if (event.kind !== (head ? "add-heads" : "add-data")) {
      const why = head ? "with the way to a root of heads it must be an add-heads" : "it is no add-data";
      this.found("anchor", "entry-signature", `the entry is another event: ${why}`);
      return undefined;
    }
    if (!vouches(event, head, tag(last.did, last.index), last.digest)) {
      this.found(last.index, "link-prev", "the last link is not the one that the ledger names");
    }
    if (!trust) return undefined;
    const signer = provider(trust, event.kid);
    if (!signer || !signedBy(event, signer.sign)) {
      const why = "(has its key changed since? then ask for the new trust file)";
      this.found("anchor", "entry-signature", `the entry is not signed by a trusted provider ${why}`);
    }
    const said = this.attempt("anchor", "log-root", () => parseReceipt(proof));
    if (!said) return undefined;
    const open = () => openCheckpoint(trust.policy, said.checkpoint);
    const opened = this.attempt("anchor", "checkpoint-signature", open);
    if (!opened) return undefined;
    if (!holds(said, entry, opened.checkpoint)) {
      this.found("anchor", "log-root", "the inclusion path does not lead from the entry to the log's root");
      return undefined;
    }
    const size = countsUpto(trust, event.kid);
    if (said.leafIndex >= size) {
      this.found("anchor", "entry-signature", `its signer's key was retired at size ${size} of the log`);
    }
    return { leafIndex: said.leafIndex, ...opened };
  }

  /** What reading gives; a refusal is a finding. */
  private attempt<T>(where: bigint | string, code: Code, make: () => T): T | undefined {
    try {
      return make();
    } catch (e) {
      if (!(e instanceof BadInput)) throw e;
      this.found(where, code, e.message);
      return undefined;
    }
  }
}

/** The rows of some runs, one after the other. */
function cut<T extends BigInt64Array | Int32Array>(column: T, runs: Run[], make: (n: number) => T): T {
  const parts = runs.map(([at, end]) => column.subarray(at, end) as T);
  const all = make(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    (all as { set(from: T, at: number): void }).set(part, at);
    at += part.length;
  }
  return all;
}

/** Place of the first time that is not before `t`, in rising times. */
function firstAt(times: BigInt64Array, t: bigint): number {
  let [low, high] = [0, times.length];
  while (low < high) {
    const mid = (low + high) >> 1;
    if ((times[mid] as bigint) < t) low = mid + 1;
    else high = mid;
  }
  return low;
}

/** The leaf that the answer's rows of a page lead to, or why they lead to none. */
function pageLeaf(page: BundlePage, times: BigInt64Array, leads: (Int32Array | undefined)[]): Uint8Array | string {
  const salt = page.salts.get(0);
  if (!salt) return "the salt of the times is missing";
  const cols = [colTimes(salt, times)];
  for (const codes of leads) {
    const [own, hidden] = [page.salts.get(cols.length), page.hidden.get(cols.length)];
    const col = codes && own && !hidden ? colLead(own, codes) : !codes && !own ? hidden : undefined;
    if (!col) return `column ${cols.length} is not shown where it is answered, or not hidden where it is not`;
    cols.push(col);
  }
  if (page.salts.size + page.hidden.size !== cols.length) return "it names columns that the chunk does not have";
  return leaf(cols);
}
