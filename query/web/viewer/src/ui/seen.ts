/** What of tiles and live rows a view shows, and what it cannot show and why. */

import { bands } from "../core/gaps.js";
import { type Sheet, type View, spanOf } from "../core/paper.js";
import { placeSpan } from "../core/tiles.js";
import { MINUTE, type Span, meets, union, within } from "../core/time.js";
import { type Tile, lackOf } from "../net/loader.js";
import { type Piece, cut } from "../net/part.js";
import { type Blank, type Scene } from "./scene.js";

/** A seal may take as long as a slot and its grace: what is younger and empty may just not be sealed yet. */
const PRESENT = 10 * MINUTE;

/** A tile's place; where it has not come, what stands in for it until then. */
export interface Seen {
  readonly span: Span;
  readonly tile: Tile | undefined;
  readonly standIns: readonly Piece[];
}

/** What of the tiles, by time, and of the live frames a view shows. */
export function seen(
  view: View,
  sheet: Sheet,
  places: readonly Seen[],
  live: readonly Piece[],
  bounds: Span,
  now: number,
): Pick<Scene, "pieces" | "blanks" | "bands" | "standings"> {
  const screen = spanOf(view, sheet);
  const tiles = places.flatMap(({ tile }) => (tile ? [tile] : []));
  const pieces = places.flatMap(({ tile, standIns }): readonly Piece[] => (tile ? [tile] : standIns)).filter((p) => p.times.length > 0);
  const sealed = pieces.reduce((t, { times }) => Math.max(t, times.at(-1) as number), -Infinity);
  // A frame can lie across the end of a slot: only what is later than what is sealed is live.
  const later = { from: sealed + 1e-3, until: Infinity };
  const fresh = live.flatMap((piece) => cut(piece, later)).filter((piece) => meets(spanOfPiece(piece), screen));
  const open = union(fresh.map((p) => ({ from: spanOfPiece(p).from - p.apart, until: spanOfPiece(p).until + p.apart })));
  const waiting = places.flatMap(({ span, tile }) => missing(span, tile, bounds));
  const gaps = union(tiles.flatMap((tile) => tile.gaps)).flatMap((gap) => without(gap, open));
  const blanks = [...waiting, ...gaps.map((gap) => blankOf(gap, sealed, now)), ...outside(screen, bounds)];
  return {
    pieces: [...pieces, ...fresh],
    blanks: blanks.filter((blank) => meets(blank, screen)),
    bands: bands(tiles.flatMap((tile) => tile.qualities)).filter((band) => meets(band, screen)),
    standings: [
      ...places.filter(({ span }) => within(span, bounds)).map(({ tile }) => tile?.proof.standing ?? "waiting"),
      ...(fresh.length > 0 ? (["open"] as const) : []),
    ],
  };
}

function spanOfPiece({ times }: Piece): Span {
  return { from: times[0] as number, until: (times.at(-1) as number) + 1e-3 };
}

function missing(span: Span, tile: Tile | undefined, bounds: Span): Blank[] {
  const [words, part] = [lackOf(tile), within(tile ? placeSpan(tile.place) : span, bounds)];
  if (words === null || !part) return [];
  return [{ ...part, kind: tile?.proof.standing === "mismatch" ? "mismatch" : "missing", words }];
}

/** A gap up to the present, after which nothing was sealed, may be filled soon. */
function blankOf(gap: Span, sealed: number, now: number): Blank {
  const soon = gap.until > now - PRESENT && gap.from >= sealed;
  return soon ? { ...gap, kind: "pending", words: "nothing sealed here yet" } : { ...gap, kind: "gap", words: "no data" };
}

function outside(screen: Span, { from, until }: Span): Blank[] {
  const words = "outside your grant, or not yet";
  const both = [{ from: screen.from, until: Math.min(from, screen.until) }, { from: Math.max(until, screen.from), until: screen.until }];
  return both.filter((span) => span.from < span.until).map((span) => ({ ...span, kind: "outside" as const, words }));
}

function without(span: Span, cut: readonly Span[]): Span[] {
  let [rest, at]: [Span[], number] = [[], span.from];
  for (const { from, until } of cut) {
    if (until <= at || from >= span.until) continue;
    if (from > at) rest = [...rest, { from: at, until: from }];
    at = Math.max(at, until);
  }
  return at < span.until ? [...rest, { from: at, until: span.until }] : rest;
}
