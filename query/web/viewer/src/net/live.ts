/** Rows as they become durable: server-sent events over fetch, because an EventSource cannot sign its requests. */

import { json } from "chordae-chain";
import { type ServerEvent, Events } from "../core/events.js";
import { NO_VALUE } from "../core/gaps.js";
import { msOf } from "../core/time.js";
import { type Door, Refusal, piecesOf } from "./door.js";
import { type LeadPart } from "./part.js";
import { leadsParameter, time } from "./wire.js";

const AGAIN_MS = 1000;

/** A frame: acknowledged, and not proven. */
export interface LiveFrame {
  readonly times: Float64Array;
  readonly leads: LeadPart[];
  readonly apart: number;
}

/** What a live answer tells. */
export interface Listener {
  frame(frame: LiveFrame): void;
  /** Rows were left out, or the connection broke and goes on later. */
  hole(why: string): void;
  /** It is over; `ended` where the grant is. */
  end(why: string, ended: boolean): void;
}

/** Follows a stream until the signal or an end; after a break it goes on behind the last frame seen. */
export async function follow(door: Door, did: string, leads: string[] | null, to: Listener, signal: AbortSignal): Promise<void> {
  const target = `/v1/streams/${did}/live${leadsParameter("?", leads)}`;
  const reading = new Reading(to);
  while (!signal.aborted) {
    try {
      const last = reading.lastId === null ? {} : { "last-event-id": reading.lastId };
      const answer = await door.open(target, { accept: "text/event-stream", ...last }, signal);
      const [events, text] = [new Events(), new TextDecoder()];
      for await (const piece of piecesOf(answer)) {
        for (const event of events.take(text.decode(piece, { stream: true }))) if (reading.take(event)) return;
      }
      to.hole("the live connection broke");
    } catch (e) {
      if (signal.aborted) return;
      if (e instanceof Refusal && e.ends) return to.end(e.message, true);
      to.hole(e instanceof Error ? e.message : String(e));
    }
    await new Promise((go) => setTimeout(go, AGAIN_MS));
  }
}

/** Turns events into frames. */
export class Reading {
  lastId: string | null = null;
  private scales: Omit<LeadPart, "low" | "high">[] = [];
  private step = 0;

  constructor(private readonly to: Listener) {}

  /** True once it is over. Throws for what is no event of a live answer. */
  take({ name, data, id }: ServerEvent): boolean {
    const said = json.read(data, "live event");
    const at = (key: string) => (said instanceof Map ? said.get(key) : undefined) ?? null;
    if (name === "birth") this.birth(at("leads"), at("rate"));
    if (name === "rows") {
      this.to.frame(this.frame(at("first_ns"), at("after_ns"), at("leads")));
      this.lastId = id;
    }
    if (name === "hole") this.to.hole(String(at("detail")));
    if (name === "end") this.to.end(String(at("detail")), at("code") === "revoked");
    return name === "end";
  }

  private birth(leads: json.Json, rate: json.Json): void {
    const [num, den] = json.items(rate, "rate", 2).map(number);
    this.step = (1000 * (den ?? 0)) / (num ?? 1);
    this.scales = json.items(leads, "leads", 64).map((lead) => {
      const of = (key: string) => (lead instanceof Map ? lead.get(key) : undefined) ?? null;
      return { name: String(of("name")), gain: number(of("gain")), baseline: number(of("baseline")), unit: String(of("unit")) };
    });
  }

  private frame(first: json.Json, after: json.Json, leads: json.Json): LiveFrame {
    const start = msOf(time(first, "first_ns"));
    const times = Float64Array.from(json.items(after, "after_ns", 65_536), (ns) => start + number(ns) / 1e6);
    const codes = (name: string) =>
      Int32Array.from(json.items(leads instanceof Map ? leads.get(name) : null, name, 65_536), (c) => (c === null ? NO_VALUE : number(c)));
    const parts = this.scales.map((scale) => {
      const own = codes(scale.name);
      return { ...scale, low: own, high: own };
    });
    return { times, leads: parts, apart: 1.5 * this.step };
  }
}

function number(value: json.Json): number {
  return value instanceof json.Num ? Number(value.token) : Number.NaN;
}
