/**
 * Tiles of one grant: asked for, judged, kept while there is room.
 *
 *     wanted (the newest view's, most urgent first) ─▶ at most IN_FLIGHT_MAX ─▶ rows, proof ─▶ judge ─▶ cache
 *
 * A view that moved on takes its wishes with it: what was not begun is never asked for. A tile whose rows all lead to
 * the ledger is kept for good; any other is asked for again while it is looked at, until it is.
 */

import { BUCKETS, Cache, type Place, keyOf, lengthOf, placeSpan } from "../core/tiles.js";
import { MINUTE, SECOND, type Span, meets, msOf, nsOf } from "../core/time.js";
import { type Door, Refusal } from "./door.js";
import { type Grant } from "./grants.js";
import { type Part, type Piece, type Question, UNKNOWN, type Wrong, bare, cut, wrong } from "./part.js";
import { leadsParameter } from "./wire.js";

const IN_FLIGHT_MAX = 4;
const ANSWER_MAX = 64 * 1024 * 1024;
const PROOF_MAX = 32 * 1024 * 1024;
const CACHE_MAX = 256 * 1024 * 1024;
/** Not settled, near the present: rows come. Long past: rows of a device that was away may come. */
const AGAIN = 5 * SECOND;
const AGAIN_PAST = MINUTE;
const PRESENT = 10 * MINUTE;
/** A summary of hours costs the server seconds: it is asked for again once a pixel or two of it are new. */
const AGAIN_PART = 1 / 200;
const AGAIN_FAILED_MAX = MINUTE;

/** Hashes elsewhere; a worker, or in a test the functions themselves. */
export interface Judge {
  rows(answer: Uint8Array, bundle: string, asked: Question): Promise<Part>;
  summary(answer: Uint8Array, level: number, asked: Question, gaps: Span[]): Promise<Part>;
  metadata(bundle: string, asked: Question): Promise<Pick<Part, "qualities" | "proof">>;
}

export interface Tile extends Part {
  readonly place: Place;
  readonly bytes: number;
  /** When it was asked for, and whether it may still change. */
  readonly asked: number;
  readonly settled: boolean;
  /** Why there are no rows, for people. */
  readonly trouble: string | null;
  readonly tries: number;
}

export class Loader {
  private readonly tiles = new Cache<Tile>(CACHE_MAX);
  private readonly flying = new Set<string>();
  private readonly stopping = new AbortController();
  private queue: Place[] = [];
  /** Why nothing is shown, whatever its own proof says. */
  private distrusted: Wrong | null = null;

  constructor(
    private readonly door: Door,
    private readonly grant: Grant,
    private readonly judge: Judge,
    /** A tile came, or the grant ended. */
    private readonly changed: (ended: Refusal | null) => void,
    private readonly now: () => number = Date.now,
  ) {}

  tile(place: Place): Tile | undefined {
    const tile = this.tiles.get(keyOf(place));
    return tile && this.distrusted ? { ...tile, ...wrong(placeSpan(place), this.distrusted), trouble: null } : tile;
  }

  /** What contradicts the ledger that all proofs lead to: no row stands on it. Null: nothing, again. */
  distrust(why: Wrong | null): void {
    if (this.distrusted?.detail === why?.detail) return;
    this.distrusted = why;
    this.changed(null);
  }

  /** What is kept of other levels where a tile has not come: coarser rows before finer ones, cut to its span. */
  standIns(place: Place): Piece[] {
    if (this.distrusted) return [];
    const span = placeSpan(place);
    const others = this.tiles.values().filter((tile) => tile.place.level !== place.level && meets(placeSpan(tile.place), span));
    const coarse = others.filter((tile) => tile.place.level > place.level).sort((a, b) => a.place.level - b.place.level);
    const found = coarse[0] ? [coarse[0]] : others.sort((a, b) => a.place.n - b.place.n);
    const level = found[0]?.place.level;
    return found.filter((tile) => tile.place.level === level).flatMap((tile) => cut(tile, span));
  }

  /** What of the stream may be shown now. */
  bounds(): Span {
    const { fromNs, untilNs } = this.grant;
    const until = untilNs === null ? Infinity : msOf(untilNs);
    return { from: fromNs === null ? -Infinity : msOf(fromNs), until: Math.min(until, this.now()) };
  }

  /** Takes the place of what was wanted before. */
  want(places: readonly Place[]): void {
    this.queue = places.filter((place) => this.due(place));
    this.pump();
  }

  /** Forgets everything, for good. */
  stop(): void {
    this.stopping.abort();
    this.queue = [];
    this.tiles.clear();
  }

  private due(place: Place): boolean {
    const tile = this.tiles.get(keyOf(place));
    if (this.flying.has(keyOf(place))) return false;
    if (!tile) return placeSpan(place).from < this.now();
    if (tile.settled) return false;
    const failed = Math.min(SECOND * 2 ** tile.tries, AGAIN_FAILED_MAX);
    const past = placeSpan(place).until < this.now() - PRESENT ? AGAIN_PAST : AGAIN;
    const again = Math.max(past, lengthOf(place.level) * AGAIN_PART);
    return this.now() - tile.asked >= (tile.trouble === null ? again : failed);
  }

  private pump(): void {
    while (this.flying.size < IN_FLIGHT_MAX && !this.stopping.signal.aborted) {
      const place = this.queue.shift();
      if (!place) return;
      this.flying.add(keyOf(place));
      void this.fetch(place).finally(() => {
        this.flying.delete(keyOf(place));
        this.pump();
      });
    }
  }

  private async fetch(place: Place): Promise<void> {
    const asked = this.now();
    try {
      const question = this.question(place, asked);
      if (question.fromNs >= question.untilNs) return;
      const part = await (place.level === 0 ? this.rows(question) : this.summary(place, question));
      this.keep(place, part, asked, null);
      if (place.level > 0) await this.metadata(place, question);
    } catch (e) {
      if (this.stopping.signal.aborted) return;
      if (e instanceof Refusal && e.ends) {
        this.stop();
        return this.changed(e);
      }
      const [why, span] = [e instanceof Error ? e.message : String(e), placeSpan(place)];
      // The server looked at its own disk and found that it does not match: that is not a busy server.
      const damaged = e instanceof Refusal && e.code === "damaged";
      if (damaged) this.keep(place, wrong(span, { object: "the server's store", code: e.code, detail: why }), asked, null);
      else this.keep(place, bare(span, UNKNOWN), asked, why);
    }
  }

  private question(place: Place, asked: number): Question {
    const { from, until } = placeSpan(place);
    const { did, fromNs, untilNs, leads } = this.grant;
    const max = (a: bigint, b: bigint | null) => (b !== null && b > a ? b : a);
    const min = (a: bigint, b: bigint | null) => (b !== null && b < a ? b : a);
    return { did, leads, fromNs: max(nsOf(from), fromNs), untilNs: min(nsOf(until), untilNs), askedNs: nsOf(asked) };
  }

  private target(what: string, { did, fromNs, untilNs, leads }: Question, more: string): string {
    return `/v1/streams/${did}/${what}?from=${fromNs}&until=${untilNs}${leadsParameter("&", leads)}${more}`;
  }

  private async rows(question: Question): Promise<Part> {
    const target = this.target("window", question, "&format=arrow");
    const [answer, headers] = await this.door.get(target, ANSWER_MAX, this.stopping.signal);
    const proof = proofTarget(headers.get("link") ?? "", question.did);
    return this.judge.rows(answer, await this.door.text(proof, PROOF_MAX, this.stopping.signal), question);
  }

  private async summary({ level }: Place, question: Question): Promise<Part> {
    const target = this.target("window", question, `&format=arrow&max_points=${2 * BUCKETS}`);
    const [answer, headers] = await this.door.get(target, ANSWER_MAX, this.stopping.signal);
    return this.judge.summary(answer, level, question, listedGaps(headers.get("chordae-gaps") ?? ""));
  }

  /** A summary is shown before this comes, and stays when it does not; where it contradicts itself nothing stays. */
  private async metadata(place: Place, question: Question): Promise<void> {
    const all = { ...question, leads: null };
    const target = this.target("proof", all, "&pages=none");
    const said = await this.door.text(target, PROOF_MAX, this.stopping.signal).catch((e: unknown) => {
      if (e instanceof Refusal && e.ends) throw e;
      return undefined;
    });
    const tile = this.tiles.get(keyOf(place));
    if (said === undefined || !tile) return;
    const { qualities, proof } = await this.judge.metadata(said, all);
    if (proof.standing === "mismatch") return this.keep(place, bare(tile.window, proof), tile.asked, null);
    this.keep(place, { ...tile, qualities, proof: { ...proof, standing: tile.proof.standing } }, tile.asked, null);
  }

  private keep(place: Place, part: Part, asked: number, trouble: string | null): void {
    if (this.stopping.signal.aborted) return;
    const whole = part.window.until >= Math.min(placeSpan(place).until, this.grantEnd());
    const { standing } = part.proof;
    const settled = whole && trouble === null && (standing === "anchored" || standing === "mismatch" || place.level > 0);
    const before = this.tiles.get(keyOf(place));
    // A tile that was good is not given up for a server that is busy.
    if (trouble !== null && before && before.trouble === null) part = before;
    const tries = trouble === null ? 0 : (before?.tries ?? 0) + 1;
    const bytes = part.leads.reduce((n, { low, high }) => n + low.byteLength + (high === low ? 0 : high.byteLength), part.times.byteLength);
    this.tiles.set(keyOf(place), { ...part, place, bytes: bytes + 1024, asked, settled, trouble, tries });
    this.changed(null);
  }

  private grantEnd(): number {
    return this.grant.untilNs === null ? Infinity : msOf(this.grant.untilNs);
  }
}

/** The target of `Link: <...>; rel="proof"`; it must be a proof of this stream on this server. */
export function proofTarget(header: string, did: string): string {
  const target = /^<(\/v1\/streams\/[^>]*)>; rel="proof"/.exec(header)?.[1];
  if (!target?.startsWith(`/v1/streams/${did}/proof?`)) throw new Error("the answer names no proof of this stream");
  return target;
}

/** The spans of `Chordae-Gaps: count=N, spans="FROM/UNTIL ...", more=M`. */
export function listedGaps(header: string): Span[] {
  const spans = /spans="([0-9/ -]*)"/.exec(header)?.[1] ?? "";
  return [...spans.matchAll(/(-?\d+)\/(-?\d+)/g)].map(([, a, b]) => ({ from: msOf(BigInt(a ?? 0)), until: msOf(BigInt(b ?? 0)) }));
}

/** Why a tile shows no rows, in words; null where it shows what there is. */
export function lackOf(tile: Tile | undefined): string | null {
  if (!tile) return "loading";
  if (tile.trouble !== null && tile.leads.length === 0) return tile.trouble;
  const { standing, findings } = tile.proof;
  return standing === "mismatch" ? `does not match its proof: ${findings[0]?.detail ?? ""}` : null;
}
