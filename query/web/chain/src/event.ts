/**
 * Ledger entries: events as COSE_Sign1 (RFC 9052) in exactly one encoding (docs/FORMATS.md 5).
 *
 *     entry = 18([ << {1: -8, 3: "application/chordae-event+cbor", 4: kid} >>, {}, << payload >>, sig ])
 *
 * Decoding checks no signature; {@link signedBy} does, against a key that the caller trusts.
 */

import { BadInput, U32_MAX, U64_MAX, equal } from "./bytes.js";
import { type Cbor, Tag, decode as decodeCbor, encode } from "./cbor.js";
import { keyId, strongKey, verifyStrict } from "./keys.js";

/** Bytes of an entry. */
export const ENTRY_BYTES_MAX = 65_535;
const CONTENT_TYPE = "application/chordae-event+cbor";
/** Of the types that count something, how many there are at least one and at most. */
const COUNTED: Record<string, bigint> = { block: 400n, "add-heads": 4096n };

/** So many bytes, any number of them (0), an integer up to a bound, or one of some words. */
type Rule = number | bigint | string[];

/** Of each type the fields beside `type`. */
const KINDS: Record<string, Record<string, Rule>> = {
  "add-data": { digest: 32, tag: 32, content: 0 },
  "add-heads": { root: 32, count: U32_MAX },
  "create-session": { sections: 32, content: 0, nonce: 16 },
  "revoke-session": { sid: 32, nonce: 16 },
  "audit-head": { digest: 32, count: U64_MAX, time_ms: U64_MAX },
  "rotate-key": { role: ["provider", "sequencer", "log", "witness"], old: 32, new: 32, time_ms: U64_MAX },
  block: { height: U64_MAX, prev: 32, events_root: 32, first: U64_MAX, count: U32_MAX, time_ms: U64_MAX },
};

/** An entry taken apart: a claim, until {@link signedBy} says otherwise. */
export interface SignedEvent {
  /** `add-data`, `add-heads`, `create-session`, `revoke-session`, `audit-head`, `rotate-key` or `block`. */
  readonly kind: string;
  readonly fields: ReadonlyMap<bigint | string, Cbor>;
  /** Key id of who says that they say it. */
  readonly kid: Uint8Array;
  /** What the signature covers (RFC 9052 Sig_structure). */
  readonly covered: Uint8Array;
  readonly signature: Uint8Array;
}

/** Takes an entry apart. Throws {@link BadInput} for anything that is not the one encoding of a known event. */
export function decode(entry: Uint8Array): SignedEvent {
  const bad = (why: string) => new BadInput(`ledger entry: ${why}`);
  if (entry.length > ENTRY_BYTES_MAX) throw bad("longer than 65,535 bytes");
  const tagged = decodeCbor(entry);
  const parts = tagged instanceof Tag && tagged.number === 18n && Array.isArray(tagged.value) ? tagged.value : [];
  const [protectedRaw, unprotected, payload, signature] = parts;
  const shaped = parts.length === 4 && unprotected instanceof Map && unprotected.size === 0;
  if (!shaped || !isBytes(protectedRaw) || !isBytes(payload) || !isBytes(signature) || signature.length !== 64) {
    throw bad("not a COSE_Sign1 with tag 18, an empty unprotected header and a signature of 64 bytes");
  }
  const header = decodeCbor(protectedRaw);
  const kid = header instanceof Map && header.size === 3 ? header.get(4n) : undefined;
  const known = header instanceof Map && header.get(1n) === -8n && header.get(3n) === CONTENT_TYPE;
  if (!known || !isBytes(kid) || kid.length !== 32) throw bad("its protected header is not that of an event");
  const fields = decodeCbor(payload);
  const kind = fields instanceof Map ? fields.get("type") : undefined;
  const rules = typeof kind === "string" && Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  if (!(fields instanceof Map) || typeof kind !== "string" || !rules) throw bad("of an unknown type");
  fields.delete("type");
  const names = Object.keys(rules);
  const wrong = names.find((name) => !fits(fields.get(name), rules[name] as Rule));
  if (wrong !== undefined || fields.size !== names.length) throw bad(`${wrong ?? "a field"} is not one of ${kind}`);
  const [count, most] = [fields.get("count") as bigint, COUNTED[kind]];
  if (most !== undefined && (count < 1n || count > most)) throw bad(`${kind} counts 1-${most}`);
  if (kind === "rotate-key") {
    const next = fields.get("new") as Uint8Array;
    strongKey(next);
    if (equal(keyId(next), fields.get("old") as Uint8Array)) throw bad("a key cannot follow itself");
  }
  return { kind, fields, kid, covered: covered(protectedRaw, payload), signature };
}

/**
 * Signs an event: the bytes of its entry. `sign` is whoever holds the key. Throws {@link BadInput} for an event that
 * {@link decode} would refuse.
 */
export async function sign(
  kind: string,
  fields: Record<string, Cbor>,
  kid: Uint8Array,
  sign: (covered: Uint8Array) => Promise<Uint8Array>,
): Promise<Uint8Array> {
  const header = encode(new Map<bigint, Cbor>([[1n, -8n], [3n, CONTENT_TYPE], [4n, kid]])); // prettier-ignore
  const payload = encode(new Map(Object.entries({ type: kind, ...fields })));
  const signature = await sign(covered(header, payload));
  const entry = encode(new Tag(18n, [header, new Map(), payload, signature]));
  decode(entry);
  return entry;
}

/** RFC 9052 Sig_structure. */
function covered(header: Uint8Array, payload: Uint8Array): Uint8Array {
  return encode(["Signature1", header, new Uint8Array(), payload]);
}

/** Whether this key, which the caller trusts, is the one that is named, and the signature holds, strictly. */
export function signedBy(event: SignedEvent, signPub: Uint8Array): boolean {
  return equal(keyId(signPub), event.kid) && verifyStrict(signPub, event.covered, event.signature);
}

function fits(value: Cbor | undefined, rule: Rule): boolean {
  if (Array.isArray(rule)) return typeof value === "string" && rule.includes(value);
  if (typeof rule === "bigint") return typeof value === "bigint" && value >= 0n && value <= rule;
  return isBytes(value) && (rule === 0 || rule === value.length);
}

function isBytes(value: Cbor | undefined): value is Uint8Array {
  return value instanceof Uint8Array;
}
