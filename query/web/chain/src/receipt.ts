/**
 * Receipts: the proof that an entry lies under a checkpoint (C2SP tlog-proof).
 *
 *     c2sp.org/tlog-proof@v1
 *     index 73894
 *     gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=      inclusion path, leaf's sibling first
 *                                                       empty line, then the checkpoint, verbatim
 */

import { BadInput, U64_MAX, fromBase64, fromDecimal, utf8 } from "./bytes.js";
import type { Checkpoint } from "./checkpoint.js";
import { ENTRY_BYTES_MAX } from "./event.js";
import { included, leafHash } from "./merkle.js";
import { type Opened, type Policy, open } from "./policy.js";

const HEADER = "c2sp.org/tlog-proof@v1";
const TEXT_MAX = 256 * 1024;

/** A receipt as read, nothing of it verified. */
export interface Proof {
  readonly leafIndex: bigint;
  /** Inclusion path, leaf's sibling first. */
  readonly path: Uint8Array[];
  /** The signed checkpoint, verbatim. */
  readonly checkpoint: string;
}

/** What {@link verify} established; with `lacks`, nothing is wrong and nothing is proven. */
export interface Receipt extends Opened {
  readonly leafIndex: bigint;
}

/** Reads a receipt's text. An `extra` line is allowed and dropped. Throws {@link BadInput}. */
export function parse(text: string): Proof {
  const end = text.indexOf("\n\n");
  const [header, ...lines] = text.slice(0, Math.max(end, 0)).split("\n");
  if (header !== HEADER || utf8(text).length > TEXT_MAX) throw new BadInput("not a receipt (tlog-proof)");
  if (lines[0]?.startsWith("extra ")) fromBase64(lines.shift()?.slice(6) ?? "", "extra data of a receipt");
  const index = /^index (.*)$/.exec(lines.shift() ?? "")?.[1] ?? "";
  const leafIndex = fromDecimal(index, "index of a receipt", 0n, U64_MAX);
  const path = lines.map((line) => fromBase64(line, "path of a receipt"));
  if (path.some((hash) => hash.length !== 32)) throw new BadInput("a path line of the receipt has not 32 bytes");
  return { leafIndex, path, checkpoint: text.slice(end + 2) };
}

/** Whether the path leads from the entry to the checkpoint's root. */
export function holds(proof: Proof, entry: Uint8Array, { size, root }: Checkpoint): boolean {
  return entry.length <= ENTRY_BYTES_MAX && included(size, root, proof.leafIndex, leafHash(entry), proof.path);
}

/** Verifies that an entry lies in a log of the policy; look at `lacks` too. Throws {@link BadInput}. */
export function verify(entry: Uint8Array, text: string, policy: Policy): Receipt {
  const proof = parse(text);
  const opened = open(policy, proof.checkpoint);
  if (!holds(proof, entry, opened.checkpoint)) {
    throw new BadInput("the inclusion path does not lead from the entry to the log's root");
  }
  return { leafIndex: proof.leafIndex, ...opened };
}
