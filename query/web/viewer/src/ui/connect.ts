/** From a key to a stream that may be shown. */

import { clock, msOf } from "../core/time.js";
import { type Door } from "../net/door.js";
import { type Grant, grantsOf } from "../net/grants.js";
import { type Entered, Entry } from "./entry.js";
import { el, make } from "./page.js";

/** What a reader chose. */
export interface Chosen {
  readonly door: Door;
  readonly grant: Grant;
  /** The pinned trust file's text. */
  readonly trust: string;
}

export class Connect {
  private readonly entry = new Entry(async (entered) => this.list(await grantsOf(entered.door), entered));

  constructor(private readonly chosen: (choice: Chosen) => void) {}

  /** Shows the form again; what was chosen is forgotten, and so is the key. */
  show(why: string): void {
    el("choose").hidden = true;
    this.entry.show(why);
  }

  private list(grants: readonly Grant[], { door, trust }: Entered): void {
    if (grants.length === 0) return this.entry.trouble("No session is made out to this key now.");
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
