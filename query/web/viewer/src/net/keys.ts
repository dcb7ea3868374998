/**
 * A party's keys: read from her file, held by WebCrypto so that no script can read them back, gone with the page.
 * Request tokens are signed here (docs/FORMATS.md 8). Of the key that opens what is sealed only the public half is kept:
 * nothing is opened here.
 */

import { BadInput, hex } from "chordae-chain";

const FILE_MAX = 4096;
/** How long a token counts; the server takes at most 300 s. */
const TOKEN_S = 120;
const BLOCK = /^-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*/;
/** What begins the PKCS#8 of an Ed25519 key, after its length: version 0 or 1, and the algorithm's name. */
const ED25519 = /^30..02010[01]300506032b6570/s;
const X25519 = /^30..02010[01]300506032b656e/s;

export interface Keys {
  readonly kid: string;
  readonly sign: CryptoKey;
  readonly signPublic: Uint8Array;
  /** What is sealed to her is sealed to this; null where her file has no second block. */
  readonly sealPublic: Uint8Array | null;
}

/** Reads a key file as `chordae key new` writes it: one Ed25519 block, and at most one more to open what is sealed. */
export async function readKeys(pem: string): Promise<Keys> {
  const blocks: Uint8Array<ArrayBuffer>[] = [];
  let rest = pem.trim();
  while (rest !== "" && pem.length <= FILE_MAX) {
    const found = BLOCK.exec(rest);
    if (!found?.[1]) break;
    blocks.push(Uint8Array.from(atob(found[1].replaceAll(/\s/g, "")), (c) => c.charCodeAt(0)));
    rest = rest.slice(found[0].length);
  }
  const [first, second] = blocks;
  const begins = (block: Uint8Array, as: RegExp) => as.test(hex(block.slice(0, 12)));
  if (rest !== "" || !first || blocks.length > 2 || !begins(first, ED25519) || (second && !begins(second, X25519))) {
    throw new BadInput("this is no key file: one Ed25519 block, as `chordae key new` writes it, is expected");
  }
  const sign = await crypto.subtle.importKey("pkcs8", first, "Ed25519", false, ["sign"]);
  const signPublic = await publicOf(first, "Ed25519", "sign");
  const sealPublic = second ? await publicOf(second, "X25519", "deriveBits") : null;
  const kid = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", signPublic)));
  return { kid, sign, signPublic, sealPublic };
}

/** Imported once in a form that can be read out, for its public half. */
async function publicOf(block: Uint8Array<ArrayBuffer>, of: "Ed25519" | "X25519", use: KeyUsage): Promise<Uint8Array<ArrayBuffer>> {
  const readable = await crypto.subtle.importKey("pkcs8", block, of, true, [use]);
  const { x } = await crypto.subtle.exportKey("jwk", readable);
  return Uint8Array.from(atob((x ?? "").replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}

/** Her signature. */
export async function signed(keys: Keys, covered: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.sign("Ed25519", keys.sign, new Uint8Array(covered)));
}

/** What a token is for. */
export interface Request {
  /** Origin of the server's ledger, from the trust file. */
  readonly origin: string;
  readonly session: string | null;
  readonly method: string;
  /** Path and query exactly as they are sent. */
  readonly target: string;
  /** SHA-256 of the body in hex, where the token must cover it: changes by operators. */
  readonly body?: string;
}

/** A token for one request; its `jti` is fresh, so it counts once. */
export async function token(keys: Keys, request: Request, nowMs: number): Promise<string> {
  const iat = Math.floor(nowMs / 1000);
  const sid = request.session === null ? {} : { sid: request.session };
  const jti = hex(crypto.getRandomValues(new Uint8Array(16)));
  const body = request.body === undefined ? {} : { body: request.body };
  const claims = { aud: request.origin, ...sid, htm: request.method, target: request.target, ...body, iat, exp: iat + TOKEN_S, jti };
  const head = { alg: "EdDSA", typ: "chordae-request+jwt", kid: keys.kid };
  const text = [head, claims].map((part) => base64url(new TextEncoder().encode(JSON.stringify(part)))).join(".");
  return `${text}.${base64url(await signed(keys, new TextEncoder().encode(text)))}`;
}

function base64url(raw: Uint8Array): string {
  return btoa(String.fromCharCode(...raw)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
