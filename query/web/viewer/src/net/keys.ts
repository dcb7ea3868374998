/**
 * The reader's key: read from her file, held by WebCrypto so that no script can read it back, gone with the page.
 * Request tokens are signed here (docs/FORMATS.md 8).
 */

import { BadInput, hex } from "chordae-chain";

const FILE_MAX = 4096;
/** How long a token counts; the server takes at most 300 s. */
const TOKEN_S = 120;
const BLOCK = /^-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*/;
/** What begins the PKCS#8 of an Ed25519 key, after its length: version 0 or 1, and the algorithm's name. */
const ED25519 = /^30..02010[01]300506032b6570/s;

export interface Keys {
  readonly kid: string;
  readonly sign: CryptoKey;
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
  const [first] = blocks;
  if (rest !== "" || !first || blocks.length > 2 || !ED25519.test(hex(first.slice(0, 12)))) {
    throw new BadInput("this is no key file: one Ed25519 block, as `chordae key new` writes it, is expected");
  }
  // Read out once, for the public half, and held in a form that cannot be read out.
  const readable = await crypto.subtle.importKey("pkcs8", first, "Ed25519", true, ["sign"]);
  const { x } = await crypto.subtle.exportKey("jwk", readable);
  const sign = await crypto.subtle.importKey("pkcs8", first, "Ed25519", false, ["sign"]);
  const raw = Uint8Array.from(atob((x ?? "").replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return { kid: hex(new Uint8Array(await crypto.subtle.digest("SHA-256", raw))), sign };
}

/** What a token is for. */
export interface Request {
  /** Origin of the server's ledger, from the trust file. */
  readonly origin: string;
  readonly session: string | null;
  readonly method: string;
  /** Path and query exactly as they are sent. */
  readonly target: string;
}

/** A token for one request; its `jti` is fresh, so it counts once. */
export async function token(keys: Keys, request: Request, nowMs: number): Promise<string> {
  const iat = Math.floor(nowMs / 1000);
  const sid = request.session === null ? {} : { sid: request.session };
  const jti = hex(crypto.getRandomValues(new Uint8Array(16)));
  const claims = { aud: request.origin, ...sid, htm: request.method, target: request.target, iat, exp: iat + TOKEN_S, jti };
  const head = { alg: "EdDSA", typ: "chordae-request+jwt", kid: keys.kid };
  const signed = [head, claims].map((part) => base64url(new TextEncoder().encode(JSON.stringify(part)))).join(".");
  const signature = await crypto.subtle.sign("Ed25519", keys.sign, new TextEncoder().encode(signed));
  return `${signed}.${base64url(new Uint8Array(signature))}`;
}

function base64url(raw: Uint8Array): string {
  return btoa(String.fromCharCode(...raw)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
