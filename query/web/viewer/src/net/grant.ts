/**
 * Grants and revocations, made with the patient's key: what `chordae session grant` makes, to the byte (docs/FORMATS.md 7).
 *
 *     section  = [inventory id, ciphertext under Ksec, Ksec sealed to provider, requester, patient]
 *     plain    = [patient, requester, expires_ns|null, purpose, [[did, metadata, url, st|null, et|null, leads|null], ...]]
 *     sections = SHA-256(CBOR array of the sections)      in the create-session event, so that the SID binds them
 *     post     = [entry, [sid, [section, ...]]]           body of POST /v1/sessions
 */

import { BadInput, type Cbor, type PublicIdentity, type TrustFile, countsUpto, encodeCbor, fromHex, hex, keyId, leafHash, parseDid, signEvent, utf8 } from "chordae-chain"; // prettier-ignore
import { type Keys, signed } from "./keys.js";
import { type Entropy, encryptOnce, random, seal } from "./seal.js";
import { type Allowed } from "./sessions.js";

/** A section of no inventory. */
const NO_INVENTORY = new Uint8Array(32);
const PURPOSE_BYTES_MAX = 1024;
const U64_MAX = 2n ** 64n - 1n;
/** Pages are what is proven: 10 s. */
const PAGE_NS = 10_000_000_000n;

/** What a patient allows of one stream. */
export interface Allowance extends Allowed {
  /** For people. */
  readonly metadata?: Record<string, string>;
  readonly url?: string;
}

/** What a patient allows somebody. */
export interface Terms {
  readonly requester: PublicIdentity;
  readonly expiresNs: bigint | null;
  readonly purpose: string;
  readonly grants: readonly Allowance[];
}

export interface Made {
  readonly sid: string;
  /** Body of the request. */
  readonly body: Uint8Array;
}

/** The X25519 key of the provider in force. Throws {@link BadInput} where the trust file names none. */
export function providerSeal(trust: TrustFile): Uint8Array {
  const inForce = trust.providers.find((who) => countsUpto(trust, keyId(who.sign)) === U64_MAX);
  if (!inForce?.seal) throw new BadInput("the trust file names no provider to whom a grant could be sealed: ask the operator for a new one");
  return inForce.seal;
}

/** Rounds a span inwards to whole pages of 10 s, so that all of what is granted can be proven. */
export function inwards(fromNs: bigint | null, untilNs: bigint | null): [bigint | null, bigint | null] {
  const down = (t: bigint) => t - (((t % PAGE_NS) + PAGE_NS) % PAGE_NS);
  const [from, until] = [fromNs === null ? null : down(fromNs + PAGE_NS - 1n), untilNs === null ? null : down(untilNs)];
  if (from !== null && until !== null && from >= until) {
    throw new BadInput("no whole 10 seconds lie between the two times: choose a longer span");
  }
  return [from, until];
}

/** Makes a session of one section. Throws {@link BadInput} where it would break a rule. */
export async function makeSession(keys: Keys, provider: Uint8Array, terms: Terms, entropy: Entropy = random): Promise<Made> {
  const { requester, purpose, grants } = terms;
  if (requester.role !== "requester" || !requester.seal) throw new BadInput("this is not the public identity of a requester");
  if (!keys.sealPublic) throw new BadInput("your key file has no X25519 key: it is no patient's");
  if (utf8(purpose).length > PURPOSE_BYTES_MAX) throw new BadInput(`say what it is for in at most ${PURPOSE_BYTES_MAX} bytes`);
  if (grants.length === 0 || grants.some(({ leads }) => leads?.length === 0)) throw new BadInput("choose a stream, and at least one lead");

  const plain: Cbor = [keys.signPublic, requester.sign, terms.expiresNs, purpose, grants.map(grantOf)];
  const ksec = entropy(32);
  const ciphertext = await encryptOnce(ksec, encodeCbor(plain));
  const sealed: Uint8Array[] = [];
  // One after the other: what is drawn first is used first.
  for (const to of [provider, requester.seal, keys.sealPublic]) sealed.push(await seal(to, "ksec", ksec, entropy));
  const sections: Cbor = [[NO_INVENTORY, ciphertext, ...sealed]];

  const nonce = entropy(16);
  const fields = {
    sections: await sha256(encodeCbor(sections)),
    content: await seal(keys.sealPublic, "create-session", encodeCbor([plain]), entropy),
    nonce,
  };
  const entry = await signEvent("create-session", fields, fromHex(keys.kid, "key id", 32), (covered) => signed(keys, covered));
  const sid = leafHash(entry);
  return { sid: hex(sid), body: encodeCbor([entry, [sid, sections]]) };
}

/** The event that ends a session; body of `DELETE /v1/sessions/{sid}`. */
export async function makeRevocation(keys: Keys, sid: string, entropy: Entropy = random): Promise<Uint8Array> {
  const fields = { sid: fromHex(sid, "session id", 32), nonce: entropy(16) };
  return signEvent("revoke-session", fields, fromHex(keys.kid, "key id", 32), (covered) => signed(keys, covered));
}

function grantOf({ did, metadata = {}, url = "", fromNs, untilNs, leads }: Allowance): Cbor {
  if (fromNs !== null && untilNs !== null && fromNs >= untilNs) throw new BadInput("a grant ends before it begins");
  return [parseDid(did), new Map(Object.entries(metadata)), url, fromNs, untilNs, leads];
}

async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes)));
}
