/** Calipers in the reader's hand: put down, dragged, nudged, put away. */

import { type Calipers, measure, told } from "../core/calipers.js";
import { type Sheet, type View, pxPerMs, spanOf } from "../core/paper.js";

/** A point of the paper. */
export interface Point {
  readonly ms: number;
  /** Above the base line of the strip that it is on. */
  readonly mv: number;
}

export class Measuring {
  calipers: Calipers | null = null;

  get on(): boolean {
    return this.calipers !== null;
  }

  /** Puts them in the middle of the picture, or away. */
  toggle(view: View, sheet: Sheet, on = !this.on): void {
    const { from, until } = spanOf(view, sheet);
    const third = (until - from) / 3;
    this.calipers = on ? { from: from + third, until: from + 2 * third, fromMv: 0, untilMv: 0 } : null;
  }

  drag({ ms, mv }: Point, begins: boolean): void {
    const { from, fromMv } = begins || !this.calipers ? { from: ms, fromMv: mv } : this.calipers;
    this.calipers = { from, fromMv, until: ms, untilMv: mv };
  }

  /** A pixel aside, a quarter of a small box up: as fine as can be seen. */
  nudge(dx: number, dy: number, first: boolean, { view, sheet, gain }: { view: View; sheet: Sheet; gain: number }): void {
    if (!this.calipers) return;
    const [ms, mv] = [dx / pxPerMs(view, sheet), (dy * 0.25) / gain];
    const { from, until, fromMv, untilMv } = this.calipers;
    this.calipers = first
      ? { from: from + ms, fromMv: fromMv + mv, until, untilMv }
      : { from, fromMv, until: until + ms, untilMv: untilMv + mv };
  }

  words(): string {
    return this.calipers ? told(measure(this.calipers)) : "";
  }
}
