/**
 * Checkpoints: the log's signed size and root under its origin, each a line (C2SP tlog-checkpoint, docs/FORMATS.md 5).
 */

import { BadInput, U64_MAX, fromBase64, fromDecimal, utf8 } from "./bytes.js";
import { verifyStrict } from "./keys.js";
import type { Tree } from "./merkle.js";
import { type Note, type NoteKey, noteKey, signatureBy } from "./note.js";

const TYPE_ED25519 = 0x01;

/** A log's size and root under its origin. */
export interface Checkpoint extends Tree {
  readonly origin: string;
}

/** The key that a reader trusts to speak for an origin, from its verifier key. Throws {@link BadInput}. */
export function trustedLog(vkey: string): NoteKey {
  return noteKey(vkey, TYPE_ED25519);
}

/** Reads a checkpoint of the trusted log. Extension lines are refused: our logs write none. Throws {@link BadInput}. */
export function open(note: Note, log: NoteKey): Checkpoint {
  const [origin, size = "", root = "", end, ...more] = note.body.split("\n");
  if (end !== "" || more.length > 0) throw new BadInput("the note is no checkpoint, or has extension lines");
  if (origin !== log.name) throw new BadInput("the checkpoint is of another log than the trusted one");
  const checkpoint = { origin, size: fromDecimal(size, "size", 0n, U64_MAX), root: fromBase64(root, "root") };
  if (checkpoint.root.length !== 32) throw new BadInput("the checkpoint's root has not 32 bytes");
  const signature = signatureBy(note, log);
  if (!signature || !verifyStrict(log.key, utf8(note.body), signature)) {
    throw new BadInput("the checkpoint is not signed by the trusted log key");
  }
  return checkpoint;
}
