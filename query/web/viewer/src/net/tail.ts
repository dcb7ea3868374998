/** The newest live frames; the oldest go first. */

import { type LiveFrame } from "./live.js";

/** Enough for a slot of five minutes in frames of a second, and some. */
const FRAMES_MAX = 600;

export class Tail {
  private held: LiveFrame[] = [];

  /** Takes a frame. One that is older than the newest was sent later than recorded: it is shown once it is sealed. */
  add(frame: LiveFrame): void {
    const first = frame.times[0];
    if (first === undefined || first < this.newest()) return;
    this.held.push(frame);
    if (this.held.length > FRAMES_MAX) this.held.shift();
  }

  frames(): readonly LiveFrame[] {
    return this.held;
  }

  /** Instant of the newest row. */
  newest(): number {
    return this.held.at(-1)?.times.at(-1) ?? -Infinity;
  }

  clear(): void {
    this.held = [];
  }
}
