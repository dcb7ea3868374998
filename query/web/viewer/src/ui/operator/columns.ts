/** Devices, streams and commands in words: what an operator wants to see at a glance. Times are UTC, as in the log. */

import { DAY, SECOND, clock, length, msOf } from "../../core/time.js";
import { type Command, type Device, type StreamLine } from "../../net/admin.js";
import { type Column, type State } from "../table.js";
import { partyWords } from "../words.js";

/** A stream is silent when nothing came for so long; a device's keep-alive is shorter. */
const SILENT_AFTER = 30 * SECOND;
/** As the alert on the server's own certificate has it. */
const RENEW_WITHIN = 14 * DAY;
const LAST = 2n ** 63n;

const age = (ns: bigint | null, now: number) => (ns === null ? "" : `${length(Math.max(0, now - msOf(ns)))} ago`);
const utc = (ns: bigint | null) => (ns === null ? "" : `${clock(msOf(ns))} UTC`);

export function deviceState({ enabled, revoked, status, kind }: Device): State {
  if (!enabled) return { word: "disabled", shape: "✕", tone: "none" };
  if (revoked) return { word: "certificate revoked", shape: "✕", tone: "bad" };
  if (status === "online") return { word: "online", shape: "●", tone: "good" };
  if (status === "offline") return { word: "offline", shape: "○", tone: "bad" };
  return { word: kind === "device" ? "has said nothing" : "is not told", shape: "–", tone: "none" };
}

function certificate({ endsNs }: Device, now: number): State {
  if (endsNs === null) return { word: "none", shape: "–", tone: "none" };
  const left = msOf(endsNs) - now;
  if (left <= 0) return { word: "has ended: renew it", shape: "▲", tone: "bad" };
  if (left < RENEW_WITHIN) return { word: `${length(left)} left: renew it`, shape: "◔", tone: "wait" };
  return { word: `${length(left)} left`, shape: "●", tone: "good" };
}

export function deviceColumns(now: () => number): Column<Device>[] {
  return [
    { name: "Device", cell: ({ id }) => id },
    { name: "Kind", cell: ({ kind, gateway }) => (gateway === null ? kind : `${kind} behind ${gateway}`) },
    { name: "State", cell: deviceState },
    { name: "Last seen", cell: ({ seenNs }) => age(seenNs, now()), by: ({ seenNs }) => seenNs ?? -LAST, title: ({ seenNs }) => utc(seenNs) },
    { name: "Certificate", cell: (one) => certificate(one, now()), by: ({ endsNs }) => endsNs ?? LAST, title: ({ endsNs }) => utc(endsNs) },
  ];
}

export function streamState({ live }: StreamLine, now: number): State {
  if (!live) return { word: "nothing comes", shape: "–", tone: "none" };
  const silent = now - msOf(live.seenNs);
  if (silent < SILENT_AFTER) return { word: "comes in", shape: "●", tone: "good" };
  return { word: `silent for ${length(silent)}`, shape: "○", tone: "bad" };
}

function clockOf({ live }: StreamLine): string {
  if (!live || live.offsetNs === null) return "";
  return live.clock === "synced" ? "synced" : `${live.clock ?? ""}, ${offset(live.offsetNs)}`;
}

function offset(ns: bigint): string {
  const ms = msOf(ns);
  return `${ms < 0 ? "−" : "+"}${length(Math.abs(ms))}`;
}

function missing({ live }: StreamLine): State | string {
  if (!live) return "";
  const { missing: n } = live;
  return n === 0n ? { word: "none", shape: "●", tone: "good" } : { word: `${n} frames`, shape: "▲", tone: "wait" };
}

/** How much of what came is in no chunk yet, ns; all of it where nothing is sealed. */
function lag({ live, sealedNs }: StreamLine): bigint {
  if (!live || live.newestNs === null) return -1n;
  if (sealedNs === null) return LAST;
  return live.newestNs > sealedNs ? live.newestNs - sealedNs : 0n;
}

function lagWords(line: StreamLine): string {
  const ns = lag(line);
  if (ns === LAST) return "all of it";
  return ns < 0n ? "" : length(msOf(ns));
}

export function streamColumns(now: () => number, names: () => ReadonlyMap<string, string>): Column<StreamLine>[] {
  const who = (kid: string | null) => (kid === null ? "nobody's yet" : partyWords(kid, names().get(kid) ?? null));
  return [
    { name: "Stream", cell: ({ stream }) => stream },
    { name: "State", cell: (one) => streamState(one, now()) },
    { name: "Last seen", cell: ({ live }) => age(live?.seenNs ?? null, now()), by: ({ live }) => live?.seenNs ?? -LAST, title: ({ live }) => utc(live?.seenNs ?? null) },
    { name: "Newest sample", cell: ({ live }) => age(live?.newestNs ?? null, now()), by: ({ live }) => live?.newestNs ?? -LAST, title: ({ live }) => utc(live?.newestNs ?? null) },
    { name: "Not sealed yet", cell: lagWords, by: lag },
    { name: "Clock, offset", cell: clockOf, by: ({ live }) => live?.offsetNs ?? -LAST },
    { name: "Missing", cell: missing, by: ({ live }) => live?.missing ?? -1n },
    { name: "Chunks", cell: ({ chunks }) => String(chunks), by: ({ chunks }) => chunks },
    { name: "Sealed until", cell: ({ sealedNs }) => utc(sealedNs), by: ({ sealedNs }) => sealedNs ?? -LAST },
    { name: "Whose", cell: ({ patient }) => who(patient), title: ({ patient }) => patient ?? "" },
    { name: "Its id", cell: ({ did }) => did },
  ];
}

export function commandState({ state, ok, why }: Command): State {
  if (state === "waiting") return { word: "waits for the device", shape: "◔", tone: "wait" };
  if (state === "delivered") return { word: "delivered, no reply yet", shape: "◑", tone: "wait" };
  if (state === "expired") return { word: "expired", shape: "○", tone: "bad" };
  if (state !== "replied") return { word: state, shape: "?", tone: "wait" };
  if (ok === true) return { word: "done", shape: "●", tone: "good" };
  return { word: `not done: ${why ?? "the device does not say why"}`, shape: "✕", tone: "bad" };
}

export function commandColumns(names: () => ReadonlyMap<string, string>): Column<Command>[] {
  const who = (by: string) => (/^[0-9a-f]{64}$/.test(by) ? partyWords(by, names().get(by) ?? null) : by);
  return [
    { name: "Given", cell: ({ issuedNs }) => utc(issuedNs), by: ({ issuedNs }) => issuedNs },
    { name: "Device", cell: ({ device }) => device },
    { name: "What", cell: ({ command }) => command },
    { name: "State", cell: commandState },
    { name: "Replied", cell: ({ repliedNs }) => utc(repliedNs), by: ({ repliedNs }) => repliedNs ?? 0n },
    { name: "By", cell: ({ by }) => who(by), title: ({ by }) => by },
    { name: "Is kept until", cell: ({ expiresNs }) => utc(expiresNs), by: ({ expiresNs }) => expiresNs },
  ];
}
