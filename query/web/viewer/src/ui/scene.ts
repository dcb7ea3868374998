/**
 * A picture before it is drawn: on the screen, on a printed page, on a strip that is sent along.
 *
 *     .--------.--------------------------------------.
 *     |        |  times                               |  AXIS
 *     | gutter |  strips, over the grid               |
 *     | pulses |                                      |
 *     |        |  clock quality                       |  BAND
 *     '--------'--------------------------------------'
 */

import { type Standing } from "../core/badge.js";
import { type Calipers } from "../core/calipers.js";
import { type Quality } from "../core/gaps.js";
import { type Strip } from "../core/layout.js";
import { type Note } from "../core/notes.js";
import { CSS_DENSITY, type Sheet, type View } from "../core/paper.js";
import { type Span } from "../core/time.js";
import { type Piece } from "../net/part.js";

/** A span that is not drawn as a line, and why. */
export interface Blank extends Span {
  readonly kind: "gap" | "pending" | "mismatch" | "missing" | "outside";
  readonly words: string;
}

export interface Scene {
  readonly view: View;
  readonly sheet: Sheet;
  readonly gain: number;
  readonly strips: readonly Strip[];
  /** By time. */
  readonly pieces: readonly Piece[];
  readonly blanks: readonly Blank[];
  readonly bands: readonly Quality[];
  readonly standings: readonly Standing[];
  readonly notes: readonly Note[];
  readonly calipers: Calipers | null;
  readonly width: number;
  readonly height: number;
}

export const GUTTER_MM = 16;
export const AXIS_MM = 5;
export const BAND_MM = 4.5;

/** Pixels of lines and letters: one on a screen of the usual density, more on paper that is printed. */
export function unitOf({ density }: Sheet): number {
  return density / CSS_DENSITY;
}

/** Edges of the traces, in pixels. */
export function frameOf({ sheet, width, height }: Pick<Scene, "sheet" | "width" | "height">) {
  const mm = unitOf(sheet) * CSS_DENSITY;
  return { left: GUTTER_MM * mm, top: AXIS_MM * mm, right: width, bottom: height - BAND_MM * mm };
}

/** The sheet of a picture of this size. */
export function sheetOf(width: number, density: number): Sheet {
  return { density, width: Math.max(width - GUTTER_MM * density, 1) };
}
