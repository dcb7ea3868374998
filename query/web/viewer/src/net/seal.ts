/**
 * Sealing to a party (docs/FORMATS.md 1): HPKE base mode, RFC 9180, with `hpke-js`.
 *
 *     DHKEM(X25519, HKDF-SHA256) · HKDF-SHA256 · ChaCha20-Poly1305, aad empty
 *     info   = "chordae v1 " + purpose         one sealed text cannot be passed off as another kind
 *     sealed = enc (32) || ciphertext (plaintext + 16)
 */

/*! hpke-js - MIT License (c) 2023 Ajitomi Daisuke */
import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";
import { CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { BadInput, concat, utf8 } from "chordae-chain";

/** Random bytes, so many. */
export type Entropy = (size: number) => Uint8Array;

export const random: Entropy = (size) => crypto.getRandomValues(new Uint8Array(size));

const KEY_BYTES = 32;
const EMPTY = new ArrayBuffer(0);
const aead = new Chacha20Poly1305();
const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead });

/** Seals a text to the holder of an X25519 key. Throws {@link BadInput} for a key that is no usable point. */
export async function seal(to: Uint8Array, purpose: "create-session" | "ksec", plain: Uint8Array, entropy: Entropy): Promise<Uint8Array> {
  // The ephemeral key is derived from random bytes, as the command line does it: the same bytes give the same text.
  const ekm = buffer(entropy(KEY_BYTES));
  try {
    const recipientPublicKey = await suite.kem.deserializePublicKey(buffer(to));
    const sender = await suite.createSenderContext({ recipientPublicKey, info: buffer(utf8(`chordae v1 ${purpose}`)), ekm });
    return concat(new Uint8Array(sender.enc), new Uint8Array(await sender.seal(buffer(plain), EMPTY)));
  } catch {
    throw new BadInput("cannot seal: the X25519 public key is not usable");
  }
}

/** Encrypts under a key that encrypts this once and nothing else: its nonce is zero. */
export async function encryptOnce(key: Uint8Array, plain: Uint8Array): Promise<Uint8Array> {
  const nonce = new ArrayBuffer(aead.nonceSize);
  return new Uint8Array(await aead.createEncryptionContext(buffer(key)).seal(nonce, buffer(plain), EMPTY));
}

/** A buffer of exactly these bytes. */
function buffer(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}
