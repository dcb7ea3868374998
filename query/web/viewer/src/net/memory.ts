/**
 * What this browser remembers of a ledger: the newest checkpoint that it has seen, for each trust file. A ledger only
 * grows; one that is shorter than it was, or says something else of the same entries, was set back or split.
 *
 * Everything in a ledger that was set back is genuine, each signature holds: only who saw the newer one can tell. That
 * what was seen is the beginning of what is seen now is not proven here: a ledger that was set back and has grown past
 * what is remembered is not noticed.
 */

import { BadInput, hex, openCheckpoint, parseTrust } from "chordae-chain";
import { clock } from "../core/time.js";
import { type Door } from "./door.js";
import { type Wrong } from "./part.js";

const CHECKPOINT_MAX = 64 * 1024;
const OBJECT = "ledger/checkpoint";

interface Seen {
  readonly size: bigint;
  readonly root: string;
  /** ms since 1970. */
  readonly at: number;
}

type Shelf = Pick<Storage, "getItem" | "setItem">;

export class Memory {
  private key: string | undefined;

  constructor(
    private readonly trustText: string,
    private readonly shelf: Shelf = localStorage,
    private readonly now: () => number = Date.now,
  ) {}

  /** Asks for the checkpoint and holds it against what was seen before; null where nothing is wrong. */
  async look(door: Pick<Door, "text">, signal?: AbortSignal): Promise<Wrong | null> {
    // Read before the question: another page may see a newer one while the answer is on its way.
    const before = await this.seen();
    const text = await door.text("/ledger/checkpoint", CHECKPOINT_MAX, signal);
    const at = this.now();
    try {
      const { size, root } = openCheckpoint(parseTrust(this.trustText).policy, text).checkpoint;
      const now = { size, root: hex(root), at };
      const wrong = before && contradiction(before, now);
      if (!wrong) await this.keep(now);
      return wrong;
    } catch (e) {
      if (!(e instanceof BadInput)) throw e;
      return { object: OBJECT, code: "checkpoint-signature", detail: e.message };
    }
  }

  private async seen(): Promise<Seen | null> {
    const kept = this.shelf.getItem(await this.place());
    const [, size, root, at] = /^([0-9]{1,20}) ([0-9a-f]{64}) ([0-9]{1,16})$/.exec(kept ?? "") ?? [];
    return size && root && at ? { size: BigInt(size), root, at: Number(at) } : null;
  }

  private async keep(now: Seen): Promise<void> {
    const kept = await this.seen();
    if (kept === null || kept.size <= now.size) this.shelf.setItem(await this.place(), `${now.size} ${now.root} ${now.at}`);
  }

  private async place(): Promise<string> {
    const digest = () => crypto.subtle.digest("SHA-256", new TextEncoder().encode(this.trustText));
    this.key ??= `chordae ledger ${hex(new Uint8Array(await digest()))}`;
    return this.key;
  }
}

/** What two checkpoints of one ledger, the older one seen first, cannot both be. */
function contradiction(before: Seen, now: Seen): Wrong | null {
  const seen = `at ${clock(before.at)} UTC this browser saw it with ${before.size} entries`;
  if (now.size < before.size) {
    return { object: OBJECT, code: "rolled-back", detail: `the ledger was set back: ${seen}, now the server shows ${now.size}` };
  }
  if (now.size === before.size && now.root !== before.root) {
    return { object: OBJECT, code: "log-root", detail: `the ledger says something else of the same ${now.size} entries than when ${seen}` };
  }
  return null;
}
