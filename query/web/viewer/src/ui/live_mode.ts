/** The live picture: a stream followed while it is on, and the paper that runs after its newest row. */

import { type Sheet, type View, pxPerMs, xOf } from "../core/paper.js";
import { SECOND } from "../core/time.js";
import { type Door } from "../net/door.js";
import { type Grant } from "../net/grants.js";
import { follow } from "../net/live.js";
import { Tail } from "../net/tail.js";

/** What lies between the newest row and the right edge. */
const AHEAD_MM = 5;
/** A part of the way to the newest row that is gone in one frame: frames of a second do not make the paper jump. */
const EASE = 1 / 20;
const JUMP = 5 * SECOND;
const STILL_PX = 0.05;

export class LiveMode {
  readonly tail = new Tail();
  /** Why nothing comes, for people; empty where all is well. */
  trouble = "";
  private stopping: AbortController | undefined;

  constructor(
    private readonly door: Door,
    private readonly grant: Grant,
    private readonly changed: () => void,
    /** The grant is over. */
    private readonly ended: (why: string) => void,
  ) {}

  get on(): boolean {
    return this.stopping !== undefined;
  }

  start(): void {
    if (this.on) return;
    this.stopping = new AbortController();
    const to = {
      frame: (frame: Parameters<Tail["add"]>[0]) => {
        this.trouble = "";
        this.tail.add(frame);
        this.changed();
      },
      hole: (why: string) => {
        this.trouble = why;
        this.changed();
      },
      end: (why: string, ended: boolean) => {
        this.stop();
        this.trouble = why;
        if (ended) this.ended(why);
        this.changed();
      },
    };
    void follow(this.door, this.grant.did, this.grant.leads, to, this.stopping.signal);
  }

  stop(): void {
    this.stopping?.abort();
    this.stopping = undefined;
    this.trouble = "";
    this.tail.clear();
  }

  /** The view of the next frame, or the same one where nothing moves. */
  after(view: View, sheet: Sheet): View {
    const newest = this.tail.newest();
    if (!this.on || !Number.isFinite(newest)) return view;
    const due = newest - (sheet.width - AHEAD_MM * sheet.density) / pxPerMs(view, sheet);
    const lag = due - view.from;
    const from = Math.abs(lag) > JUMP ? due : view.from + lag * EASE;
    return Math.abs(xOf(from, view, sheet)) < STILL_PX ? view : { ...view, from };
  }
}
