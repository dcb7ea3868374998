/**
 * Cosignatures: a witness's word that it has seen this checkpoint, and none that contradicts it
 * (C2SP tlog-cosignature v1, Ed25519).
 *
 *     signed:   "cosignature/v1", "time N", each a line, then the checkpoint's body
 *     in line:  u64 time, signature
 */

import { concat, utf8 } from "./bytes.js";
import { verifyStrict } from "./keys.js";
import { type Note, type NoteKey, noteKey, signatureBy } from "./note.js";

const TYPE_COSIGNATURE = 0x04;

/** A witness's key, from its verifier key. Throws {@link BadInput}. */
export function trustedWitness(vkey: string): NoteKey {
  return noteKey(vkey, TYPE_COSIGNATURE);
}

/** When this witness cosigned the note, in seconds since 1970, if it did: a line that does not hold is none. */
export function cosignedAt(note: Note, by: NoteKey): bigint | undefined {
  const raw = signatureBy(note, by);
  if (raw?.length !== 8 + 64) return undefined;
  const time = new DataView(raw.buffer, raw.byteOffset).getBigUint64(0);
  const covered = concat(utf8(`cosignature/v1\ntime ${time}\n`), utf8(note.body));
  return time < 2n ** 63n && verifyStrict(by.key, covered, raw.slice(8)) ? time : undefined;
}
