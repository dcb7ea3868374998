/** From a key file and a trust file to a stream that may be shown. */

import { BadInput, parseTrust } from "chordae-chain";
import { clock, msOf } from "../core/time.js";
import { Door, Refusal } from "../net/door.js";
import { type Grant, grantsOf } from "../net/grants.js";
import { readKeys } from "../net/keys.js";
import { KEPT, el, make } from "./page.js";

/** What a reader chose. */
export interface Chosen {
  readonly door: Door;
  readonly grant: Grant;
  /** The pinned trust file's text. */
  readonly trust: string;
}

export class Connect {
  constructor(private readonly chosen: (choice: Chosen) => void) {
    el("connect-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.connect();
    });
    this.pinned();
    if (!globalThis.crypto?.subtle) this.trouble("This page must be opened over https, or on the machine itself: browsers sign only there.");
  }

  /** Shows the form again; what was chosen is forgotten, and so is the key. */
  show(why: string): void {
    el<HTMLFormElement>("connect-form").reset();
    el("choose").hidden = true;
    el("connect").hidden = false;
    this.pinned();
    this.trouble(why);
  }

  private trouble(why: string): void {
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

  private async connect(): Promise<void> {
    this.trouble("");
    try {
      const file = el<HTMLInputElement>("trust-file").files?.[0];
      const trust = file ? await file.text() : localStorage.getItem(KEPT.trust);
      if (trust === null) return this.trouble("Choose the trust file: without it nothing can be checked.");
      const { origin } = parseTrust(trust);
      const key = el<HTMLInputElement>("key-file").files?.[0];
      if (!key) return this.trouble("Choose your key file.");
      const door = new Door(await readKeys(await key.text()), origin, null);
      const grants = await grantsOf(door);
      localStorage.setItem(KEPT.trust, trust);
      this.list(grants, door, trust);
    } catch (e) {
      this.trouble(inWords(e));
    }
  }

  private list(grants: readonly Grant[], door: Door, trust: string): void {
    if (grants.length === 0) return this.trouble("No session is made out to this key now.");
    const choose = (grant: Grant) => {
      el("connect").hidden = true;
      this.chosen({ door: door.on(grant.sid), grant, trust });
    };
    const buttons = grants.map((grant) => {
      const button = make("button", described(grant), { type: "button", "data-did": grant.did });
      button.addEventListener("click", () => choose(grant));
      const item = make("li");
      item.append(button);
      return item;
    });
    el("grants").replaceChildren(...buttons);
    el("choose").hidden = false;
    buttons[0]?.querySelector("button")?.focus();
  }
}

/** One line about a grant. */
export function described({ did, fromNs, untilNs, leads, purpose }: Grant): string {
  const bound = (ns: bigint | null, none: string) => (ns === null ? none : clock(msOf(ns)));
  const span = `${bound(fromNs, "the beginning")} to ${bound(untilNs, "now and on")}`;
  return [`Stream ${did}`, span, leads ? `leads ${leads.join(", ")}` : "all leads", purpose].filter(Boolean).join(" · ");
}

function inWords(e: unknown): string {
  if (e instanceof Refusal && e.status === 401) {
    return "The server does not know this key, or the trust file is another server's, or a clock is wrong.";
  }
  if (e instanceof BadInput || e instanceof Refusal) return e.message;
  return e instanceof Error ? `The server could not be asked: ${e.message}` : String(e);
}
