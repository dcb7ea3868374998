/** The form that each page begins with: from a trust file and a key file to a door. */

import { BadInput, type TrustFile, parseTrust } from "chordae-chain";
import { Door, Refusal } from "../net/door.js";
import { readKeys } from "../net/keys.js";
import { KEPT, el } from "./page.js";

export interface Entered {
  readonly door: Door;
  /** The trust file, and its text. */
  readonly file: TrustFile;
  readonly trust: string;
}

export class Entry {
  /** `opened` asks the server what the key is good for; what it throws is told, and the form stays. */
  constructor(private readonly opened: (entered: Entered) => Promise<void>) {
    el("connect-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.enter();
    });
    this.pinned();
    here();
    if (!globalThis.crypto?.subtle) this.trouble("This page must be opened over https, or on the machine itself: browsers sign only there.");
  }

  /** Shows the form again; what was chosen is forgotten, and so is the key. */
  show(why: string): void {
    el<HTMLFormElement>("connect-form").reset();
    el("connect").hidden = false;
    this.pinned();
    this.trouble(why);
  }

  trouble(why: string): void {
    el("trouble").textContent = why;
  }

  private pinned(): void {
    const text = localStorage.getItem(KEPT.trust);
    if (text === null) return;
    try {
      el("pinned").textContent = `Pinned: ${parseTrust(text).origin}. Choose a file only to replace it.`;
    } catch {
      localStorage.removeItem(KEPT.trust);
    }
  }

  private async enter(): Promise<void> {
    this.trouble("");
    try {
      const chosen = el<HTMLInputElement>("trust-file").files?.[0];
      const trust = chosen ? await chosen.text() : localStorage.getItem(KEPT.trust);
      if (trust === null) return this.trouble("Choose the trust file: without it nothing can be checked.");
      const file = parseTrust(trust);
      const key = el<HTMLInputElement>("key-file").files?.[0];
      if (!key) return this.trouble("Choose your key file.");
      const door = new Door(await readKeys(await key.text()), file.origin, null);
      await this.opened({ door, file, trust });
      localStorage.setItem(KEPT.trust, trust);
    } catch (e) {
      this.trouble(inWords(e));
    }
  }
}

/** Marks where we are among the pages. */
function here(): void {
  for (const link of document.querySelectorAll<HTMLAnchorElement>("nav a")) {
    if (new URL(link.href).pathname === location.pathname) link.setAttribute("aria-current", "page");
  }
}

/** What went wrong, and what to do. */
export function inWords(e: unknown): string {
  if (e instanceof Refusal && e.status === 401) {
    return "The server does not know this key, or the trust file is another server's, or a clock is wrong.";
  }
  if (e instanceof Refusal && (e.status === 503 || e.status === 429)) return `The server is busy (${e.message}): try again in ${e.retryS} s.`;
  if (e instanceof BadInput || e instanceof Refusal) return e.message;
  return e instanceof Error ? `The server could not be asked: ${e.message}` : String(e);
}
