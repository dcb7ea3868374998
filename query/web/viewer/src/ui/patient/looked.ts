/** Who looked at a stream: the trail, as the server wrote it before it answered. */

import { local, msOf } from "../../core/time.js";
import { type Door } from "../../net/door.js";
import { type Stream } from "../../net/streams.js";
import { type Looked, trailOf } from "../../net/trail.js";
import { el, make } from "../page.js";
import { once, trying } from "../said.js";
import { type State, Table } from "../table.js";
import { fingerprint, leadWords, partyWords } from "../words.js";

const OUTCOMES: Record<string, State> = {
  complete: { word: "was sent", shape: "●", tone: "good" },
  answered: { word: "was answered", shape: "●", tone: "good" },
  done: { word: "was done", shape: "●", tone: "good" },
  asked: { word: "was asked; how it ended is not known", shape: "◔", tone: "wait" },
  cut: { word: "broke off", shape: "◑", tone: "wait" },
};

export class LookedAt {
  private all: Looked[] = [];
  private readonly table = new Table<Looked>(
    el("looked"),
    "Each request is written down before it is answered, refused ones too.",
    [
      { name: "When", cell: ({ timeMs }) => local(timeMs), by: ({ n }) => n },
      { name: "Who", cell: ({ kid, name }) => partyWords(kid, name), title: ({ kid }) => fingerprint(kid) },
      { name: "As", cell: ({ role }) => role ?? "" },
      { name: "What", cell: ({ format }) => format },
      { name: "Of which time", cell: span, by: ({ fromNs }) => fromNs ?? 0n },
      { name: "Leads", cell: (one) => (span(one) === "" ? "" : leadWords(one.leads)) },
      { name: "What became of it", cell: ({ outcome }) => OUTCOMES[outcome] ?? { word: `refused: ${outcome}`, shape: "✕", tone: "bad" } },
      { name: "Rows", cell: ({ rows }) => (rows === null ? "" : String(rows)), by: ({ rows }) => rows ?? -1n },
      { name: "Session", cell: ({ sid }) => (sid === null ? "" : `${sid.slice(0, 8)}…`), title: ({ sid }) => sid ?? "" },
    ],
    ({ n }) => String(n),
    [],
    "Nobody yet.",
  ).order(0, false);

  constructor(private readonly door: () => Door | undefined) {
    el("looked-stream").addEventListener("change", () => this.again());
    el("looked-own").addEventListener("change", () => this.show());
    once("looked-more", "click", () => this.page(this.all.at(-1)?.n));
  }

  offer(streams: readonly Stream[]): void {
    el("looked-stream").replaceChildren(...streams.map(({ did, name }) => make("option", name, { value: did })));
    this.again();
  }

  again(): void {
    this.all = [];
    void trying(() => this.page());
  }

  clear(): void {
    this.all = [];
    el("looked-stream").replaceChildren();
    this.show();
  }

  private async page(before?: bigint): Promise<void> {
    const [door, did] = [this.door(), el<HTMLSelectElement>("looked-stream").value];
    if (!door || did === "") return;
    const { looked, more } = await trailOf(door, did, before);
    if (did !== el<HTMLSelectElement>("looked-stream").value) return;
    this.all = before === undefined ? looked : [...this.all, ...looked];
    el("looked-more").hidden = !more;
    this.show();
  }

  private show(): void {
    const own = el<HTMLInputElement>("looked-own").checked;
    this.table.show(this.all.filter(({ kid }) => own || kid !== this.door()?.kid));
  }
}

function span({ fromNs, untilNs }: Looked): string {
  const at = (ns: bigint | null) => (ns === null ? "…" : local(msOf(ns)));
  return fromNs === null && untilNs === null ? "" : `${at(fromNs)} to ${at(untilNs)}`;
}
