/**
 * The buttons that break a copy. Nothing here judges: the viewer is pointed at a server over the copy, by a header on
 * the same signed requests, and its own check says what it finds. What the checker says of the copy stands beside it.
 */

import { type Badge } from "../core/badge.js";
import { type Door, Refusal } from "../net/door.js";
import { Memory } from "../net/memory.js";
import { type Wrong } from "../net/part.js";
import { type Chosen } from "../ui/connect.js";
import { make, terms } from "../ui/page.js";
import { type Viewer } from "../ui/viewer.js";
import { type Copy, type Deed, copy } from "./server.js";

const ANSWER_MAX = 64 * 1024 * 1024;
const PAGE_NS = 10_000_000_000n;

const BUTTONS: [Deed | "back", string][] = [
  ["flip-bit", "Flip a bit"],
  ["swap-chunks", "Swap chunks"],
  ["roll-back-ledger", "Roll back the ledger"],
  ["widen-grant", "Widen a grant"],
  ["nothing", "An untouched copy"],
  ["back", "Back to the real one"],
];

/** Which check a code is of, for people. */
const CHECKS: Record<string, string> = {
  "pages-digest": "the page digests. This browser hashed the rows that it was shown; the hash is not the one that the chunk's link names, and the ledger vouches for the link.",
  "rolled-back": "this browser's memory. Each signature in the old ledger is good; but the browser has seen a newer one, and a ledger only grows.",
  "checkpoint-signature": "the ledger's signature, against the trust file.",
  "link-prev": "the chain of links.",
  metadata: "the metadata, against the chunk's link.",
  window: "the access rule: one grant must cover all of the window, from its first nanosecond to its last.",
  session: "the session's digest. The patient signed the digest of the record into the ledger, and this record has another.",
};

export type Open = (door: Door, judged: (badge: Badge, findings: readonly Wrong[]) => void, left: (why: string) => void) => Viewer;

export class Breaking {
  private readonly bar = make("section", "", { id: "demo", "aria-label": "Break a copy", hidden: "" });
  private readonly told = make("div", "", { id: "demo-told", role: "status" });
  private readonly buttons: HTMLButtonElement[];
  private chosen: Chosen | undefined;
  private open: Open | undefined;
  private viewer: Viewer | undefined;
  /** What is shown: a copy, or the real one. */
  private shown: { deed: Deed; made: Copy } | null = null;
  private at: number | null = null;
  private switching = false;

  constructor(
    /** The reader left, or the grant ended. */
    private readonly over: (why: string) => void,
  ) {
    this.buttons = BUTTONS.map(([deed, words]) => {
      const button = make("button", words, { type: "button", "data-deed": deed }) as HTMLButtonElement;
      button.addEventListener("click", () => void this.press(deed));
      return button;
    });
    const hint = make("p", "Break it: each button makes a copy of what is stored, breaks the copy, and shows it here as if it were the real one.");
    this.bar.append(hint, ...this.buttons, this.told);
    document.querySelector("main")?.before(this.bar);
  }

  /** Shows the stream live, with the buttons above it. */
  begin(chosen: Chosen, open: Open): void {
    [this.chosen, this.open, this.at] = [chosen, open, null];
    this.bar.hidden = false;
    this.real();
    this.viewer?.goLive();
  }

  private async press(deed: Deed | "back"): Promise<void> {
    if (!this.chosen) return;
    for (const button of this.buttons) button.disabled = true;
    try {
      if (deed === "back") this.real();
      else if (deed === "widen-grant") await this.widen();
      else await this.copy(deed);
    } catch (e) {
      this.told.replaceChildren(make("p", e instanceof Error ? e.message : String(e)));
    }
    for (const button of this.buttons) button.disabled = false;
  }

  private real(): void {
    if (!this.chosen) return;
    this.shown = null;
    this.told.replaceChildren(make("p", "This is the real one."));
    this.show(this.chosen.door);
  }

  private async copy(deed: Deed): Promise<void> {
    if (!this.chosen) return;
    const { door, grant, trust } = this.chosen;
    this.told.replaceChildren(make("p", "Copying, breaking and checking ..."));
    const made = await copy(deed, grant.did);
    // The real one is looked at once more, as it was when it was shown: what was seen is remembered.
    await new Memory(trust).look(door);
    this.shown = { deed, made };
    this.at = made.at_ms;
    this.told.replaceChildren(terms([["What was done to the copy", made.said]]), make("div", "", { id: "demo-browser" }), checked(deed, made));
    this.show(to(door, made));
  }

  /** Another view in the place of the one that is shown. */
  private show(door: Door): void {
    this.switching = true;
    this.viewer?.leave("");
    this.switching = false;
    const left = (why: string) => {
      if (this.switching) return;
      this.viewer = undefined;
      this.bar.hidden = true;
      this.over(why);
    };
    this.viewer = this.open?.(door, (badge, findings) => this.judged(badge, findings), left);
    if (this.at !== null) this.viewer?.centre(this.at);
  }

  /** What the viewer's own check came to. */
  private judged({ colour, sign, word }: Badge, findings: readonly Wrong[]): void {
    const place = document.querySelector("#demo-browser");
    if (!place || !this.shown) return;
    const lines = [...new Set(findings.map((f) => `${f.object}: ${f.detail} (${f.code})`))].slice(0, 4);
    const codes = [...new Set(findings.map((f) => f.code))];
    const caught = codes.map((code) => `Caught by ${CHECKS[code] ?? `the check ${code}.`}`);
    const said: [string, ...string[]] = [`This browser: ${sign} ${word}`, ...caught, ...lines];
    if (place.textContent === said.join("") || colour === "grey") return;
    place.replaceChildren(terms([said]));
  }

  /** More is asked for than was granted: of the real server, and of one whose record of the session was widened. */
  private async widen(): Promise<void> {
    if (!this.chosen) return;
    const { door, grant } = this.chosen;
    const from = grant.fromNs;
    if (grant.sid === null || from === null) throw new Error("This is no bounded grant: there is nothing to widen.");
    this.told.replaceChildren(make("p", "Asking ..."));
    const ask = (of: Door, begin: bigint) => asked(of, `/v1/streams/${grant.did}/window?from=${begin}&until=${from + PAGE_NS}&format=arrow`);
    const made = await copy("widen-grant", grant.did);
    const facts: [string, ...string[]][] = [
      ["The first ten seconds that were granted", ...(await ask(door, from))],
      ["The same with one nanosecond more", ...(await ask(door, from - 1n))],
      ["What was done to the copy", made.said],
      ["The same nanosecond, of the server over the copy", ...(await ask(to(door, made), from - 1n))],
    ];
    this.told.replaceChildren(terms(facts));
  }
}

function to(door: Door, { copy }: Copy): Door {
  return door.saying({ "chordae-demo-copy": String(copy) });
}

async function asked(door: Door, target: string): Promise<string[]> {
  try {
    await door.get(target, ANSWER_MAX);
    return ["answered"];
  } catch (e) {
    if (!(e instanceof Refusal)) throw e;
    return [`refused (${e.status}, ${e.code}): ${e.message}`, `Caught by ${CHECKS[e.code] ?? "the server."}`];
  }
}

/** What `chordae verify` said of the copy. */
function checked(deed: Deed, { checker }: Copy): HTMLElement {
  const found = checker.findings.map((f) => `${f.object}: ${f.detail} (${f.code})`);
  const verdicts = { ok: "intact and proven", unanchored: "intact; not all of it is anchored", damaged: "damaged" };
  const alone = "It sees nothing but this folder, in which everything is genuine: that a newer one was seen, somebody must remember.";
  return terms([[`The checker (chordae verify): ${verdicts[checker.verdict]}`, ...found, ...(deed === "roll-back-ledger" ? [alone] : [])]]);
}
