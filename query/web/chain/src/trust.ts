/**
 * The trust file: what a reader keeps, so that trust never comes from what is being checked (docs/FORMATS.md 1).
 */

import { BadInput, U64_MAX, equal, fromHex, hex, utf8 } from "./bytes.js";
import { type Json, fields, integer, items, read, string } from "./json.js";
import { type PublicIdentity, identity, keyId } from "./keys.js";
import { type Policy, parse as parsePolicy } from "./policy.js";

const TEXT_MAX = 1024 * 1024;
const IDENTITIES_MAX = 4096;

/** A trust file, read and checked. */
export interface TrustFile {
  /** The log's name; tokens are addressed to it. */
  readonly origin: string;
  readonly policy: Policy;
  /** Whose `add-data` and `audit-head` events count. */
  readonly providers: PublicIdentity[];
  /** Whose blocks count. */
  readonly sequencers: PublicIdentity[];
  /** PEM of the certificate authority, for TLS only. */
  readonly ca: string | null;
  /** Keys that were replaced, by their key ids in hex, each with the size of the log up to which it counts. */
  readonly retired: ReadonlyMap<string, bigint>;
}

/** Reads a trust file. Throws {@link BadInput}. */
export function parse(text: string): TrustFile {
  if (utf8(text).length > TEXT_MAX) throw new BadInput("the trust file is longer than 1 MiB");
  const file = read(text, "trust file");
  const at = fields(file, "trust file", ["origin", "policy", "providers", "sequencers"], ["ca", "retired"]);
  const origin = string(at("origin"), "origin");
  const retired = new Map<string, bigint>();
  for (const one of items(file instanceof Map && file.has("retired") ? at("retired") : [], "retired", IDENTITIES_MAX)) {
    const of = fields(one, "retired", ["key", "size"]);
    const key = hex(fromHex(string(of("key"), "key"), "key", 32));
    if (retired.has(key)) throw new BadInput("trust file: a key is retired twice");
    retired.set(key, integer(of("size"), "size", 0n, U64_MAX));
  }
  const policy = { ...parsePolicy(string(at("policy"), "policy")), retired };
  if (policy.logs.some((log) => log.name !== origin)) {
    throw new BadInput("trust file: the policy trusts a log of another origin");
  }
  const all = (list: Json, role: string) => {
    const found = items(list, "identities", IDENTITIES_MAX).map(identity);
    if (found.some((who) => who.role !== role)) throw new BadInput(`trust file: who is no ${role} is listed as one`);
    return found;
  };
  const [providers, sequencers] = [all(at("providers"), "provider"), all(at("sequencers"), "sequencer")];
  const ca = at("ca");
  return { origin, policy, providers, sequencers, ca: ca === null ? null : string(ca, "ca"), retired };
}

/** Up to which entry of the log a key counts: its retirement, if it has one. */
export function countsUpto(trust: TrustFile, kid: Uint8Array): bigint {
  return trust.retired.get(hex(kid)) ?? U64_MAX;
}

/** The trusted provider with this key id. */
export function provider(trust: TrustFile, kid: Uint8Array): PublicIdentity | undefined {
  return trust.providers.find((who) => equal(keyId(who.sign), kid));
}
