/** What operators are told, and what they may order (`/v1/admin/...`). */

import { json } from "chordae-chain";
import { type Door } from "./door.js";
import { LISTING_MAX, at, list, text, textOr, time, timeOr } from "./wire.js";

export interface Device {
  readonly id: string;
  /** `device`, `gateway`, `monitor`. */
  readonly kind: string;
  readonly enabled: boolean;
  readonly gateway: string | null;
  /** `online`, `offline`, as it said itself; null where it said nothing. */
  readonly status: string | null;
  /** When the newest frame or birth came. */
  readonly seenNs: bigint | null;
  /** When its newest certificate ends, and whether it was taken back. */
  readonly endsNs: bigint | null;
  readonly revoked: boolean;
}

export interface StreamLine {
  readonly stream: string;
  readonly did: string;
  readonly patient: string | null;
  readonly chunks: bigint;
  /** End of the newest sealed row. */
  readonly sealedNs: bigint | null;
  /** What ingest knows of it; null for a stream that has passed on, and where nothing came. */
  readonly live: Live | null;
}

export interface Live {
  /** When the newest frame or birth came. */
  readonly seenNs: bigint;
  /** End of the newest live sample, by our clock; null where none came since the start. */
  readonly newestNs: bigint | null;
  /** What is added to the times that the device claims; null where nothing came to tell by. */
  readonly offsetNs: bigint | null;
  readonly clock: string | null;
  /** Frames of the device's newest boot that are missing between those that came. */
  readonly missing: bigint;
}

export interface Command {
  readonly id: string;
  readonly device: string;
  /** As the device gets it. */
  readonly command: string;
  readonly by: string;
  /** `waiting`, `delivered`, `replied`, `expired`. */
  readonly state: string;
  readonly ok: boolean | null;
  readonly why: string | null;
  readonly issuedNs: bigint;
  readonly expiresNs: bigint;
  readonly repliedNs: bigint | null;
}

/** Of the server as a whole: by their names in `chordae status`. */
export interface Status {
  readonly ready: boolean;
  readonly reasons: string[];
  readonly numbers: ReadonlyMap<string, string>;
}

async function said(door: Door, what: string): Promise<json.Json> {
  return json.read(await door.text(`/v1/admin/${what}`, LISTING_MAX), what);
}

async function lines(door: Door, what: string): Promise<json.Json[]> {
  const found = await said(door, what);
  return Array.isArray(found) ? found : [];
}

export async function devicesOf(door: Door): Promise<Device[]> {
  return (await lines(door, "devices")).map((one) => {
    const certificate = at(one, "certificate");
    return {
      id: text(one, "id"),
      kind: text(one, "kind"),
      enabled: at(one, "enabled") === true,
      gateway: textOr(one, "gateway"),
      status: textOr(one, "status"),
      seenNs: timeOr(one, "seen_ns"),
      endsNs: timeOr(certificate, "not_after_ns"),
      revoked: at(certificate, "revoked_ns") !== null,
    };
  });
}

export async function streamLinesOf(door: Door): Promise<StreamLine[]> {
  return (await lines(door, "streams")).map((one) => ({
    stream: text(one, "stream"),
    did: text(one, "did"),
    patient: textOr(one, "patient"),
    chunks: time(at(one, "chunks"), "chunks"),
    sealedNs: timeOr(one, "end_ns"),
    live: at(one, "live") === null ? null : liveOf(at(one, "live")),
  }));
}

function liveOf(one: json.Json): Live {
  return {
    seenNs: time(at(one, "seen_ns"), "seen_ns"),
    newestNs: timeOr(one, "newest_ns"),
    offsetNs: timeOr(one, "offset_ns"),
    clock: textOr(one, "clock"),
    missing: time(at(one, "missing_frames"), "missing_frames"),
  };
}

export async function commandsOf(door: Door): Promise<Command[]> {
  return (await lines(door, "commands")).map((one) => ({
    id: text(one, "id"),
    device: text(one, "device"),
    command: json.write(at(one, "command")),
    by: text(one, "by"),
    state: text(one, "state"),
    ok: at(one, "ok") === null ? null : at(one, "ok") === true,
    why: textOr(one, "why"),
    issuedNs: time(at(one, "issued_ns"), "issued_ns"),
    expiresNs: time(at(one, "expires_ns"), "expires_ns"),
    repliedNs: timeOr(one, "replied_ns"),
  }));
}

/** Names of the parties by their key ids. */
export async function namesOf(door: Door): Promise<ReadonlyMap<string, string>> {
  return new Map((await lines(door, "parties")).map((one) => [text(one, "id"), text(one, "name")]));
}

export async function statusOf(door: Door): Promise<Status> {
  const found = await said(door, "status");
  const numbers = [...(found instanceof Map ? found : [])].flatMap(([name, value]): [string, string][] =>
    value instanceof json.Num ? [[name, value.token]] : typeof value === "boolean" ? [[name, value ? "yes" : "no"]] : [],
  );
  return { ready: at(found, "ready") === true, reasons: list(found, "reasons").map(String), numbers: new Map(numbers) };
}

/** An order for a device, checked by the server before it is kept for it. */
export interface Order {
  readonly device: string;
  readonly command: Record<string, unknown>;
  readonly expires_s: number;
}

export function sendCommand(door: Door, order: Order): Promise<void> {
  return door.change("/v1/admin/commands", order);
}
