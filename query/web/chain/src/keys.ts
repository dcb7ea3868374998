/** Keys of the parties: key ids, public identities, strict Ed25519 (docs/FORMATS.md 1). */

import { ed25519 } from "@noble/curves/ed25519.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { BadInput, concat, equal, fromKeyText, utf8 } from "./bytes.js";
import { type Json, fields, string } from "./json.js";

const ROLES = ["patient", "requester", "provider", "sequencer", "operator", "auditor", "device", "log", "witness"];
const NAME_BYTES_MAX = 128;

/** SHA-256 of an Ed25519 public key. */
export function keyId(signPub: Uint8Array): Uint8Array {
  return sha256(signPub);
}

type Point = InstanceType<typeof ed25519.Point>;

/** A canonical point that is not of small order, or undefined. */
function strongPoint(raw: Uint8Array): Point | undefined {
  try {
    // `false`: only the one spelling of a point (RFC 8032), not those that ZIP 215 takes as well.
    const point = ed25519.Point.fromBytes(raw, false);
    return point.isSmallOrder() ? undefined : point;
  } catch {
    return undefined;
  }
}

/** Checks that a public key is a canonical point that is not of small order. Throws {@link BadInput}. */
export function strongKey(signPub: Uint8Array): void {
  if (!strongPoint(signPub)) throw new BadInput("the Ed25519 public key is not canonical or is weak");
}

/**
 * Whether an Ed25519 signature holds, as every other reader of this house decides it: canonical points and scalar, no
 * key or R of small order, and R = [S]B - [k]A without the cofactor (RFC 8032 5.1.7 leaves that choice; the library's
 * own `verify` takes the other one, and with it signatures of mixed order that the others refuse).
 */
export function verifyStrict(signPub: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const key = strongPoint(signPub);
  if (!key || signature.length !== 64) return false;
  const r = signature.subarray(0, 32);
  const order = ed25519.Point.Fn.ORDER;
  const s = little(signature.subarray(32));
  if (!strongPoint(r) || s >= order) return false;
  const k = little(sha512(concat(r, signPub, message))) % order;
  const expected = ed25519.Point.BASE.multiplyUnsafe(s).subtract(key.multiplyUnsafe(k));
  return equal(expected.toBytes(), r);
}

function little(raw: Uint8Array): bigint {
  return raw.reduceRight((n, byte) => (n << 8n) | BigInt(byte), 0n);
}

/** What others may know of a party. */
export interface PublicIdentity {
  readonly name: string;
  readonly role: string;
  /** Ed25519. */
  readonly sign: Uint8Array;
  /** X25519, where things are sealed to the party. */
  readonly seal: Uint8Array | null;
}

/** Reads `{"name","role","sign","seal"}`. Throws {@link BadInput}. */
export function identity(value: Json): PublicIdentity {
  const at = fields(value, "public identity", ["name", "role", "sign"], ["seal"]);
  const [name, role] = [string(at("name"), "name"), string(at("role"), "role")];
  if (!ROLES.includes(role) || utf8(name).length > NAME_BYTES_MAX) {
    throw new BadInput("public identity: no role of a party, or a name that is too long");
  }
  const sign = fromKeyText(string(at("sign"), "sign"), "sign");
  strongKey(sign);
  const seal = at("seal");
  return { name, role, sign, seal: seal === null ? null : fromKeyText(string(seal, "seal"), "seal") };
}
