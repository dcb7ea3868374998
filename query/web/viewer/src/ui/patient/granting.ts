/** The form of a grant: what is asked for, looked over, signed, sent. */

import { BadInput, type PublicIdentity, hex, json, keyId, parseIdentity } from "chordae-chain";
import { DAY, HOUR, MINUTE, clock, nsOf } from "../../core/time.js";
import { type Terms, inwards, makeSession, providerSeal } from "../../net/grant.js";
import { type Stream, leadsOf } from "../../net/streams.js";
import { confirmed } from "../confirm.js";
import { type Entered } from "../entry.js";
import { el, make } from "../page.js";
import { once, say } from "../said.js";
import { boundary, fingerprint, leadWords, spanWords } from "../words.js";

export class Granting {
  private streams: readonly Stream[] = [];
  /** Counts how often leads were asked for: only the last answer is for the form as it is. */
  private asked = 0;

  /** `granted` hears the id of what was granted. */
  constructor(
    private readonly entered: () => Entered | undefined,
    private readonly granted: (sid: string) => Promise<void>,
  ) {
    once("grant", "submit", () => this.grant());
    el("grant-stream").addEventListener("change", () => void this.leads());
  }

  offer(streams: readonly Stream[]): void {
    this.streams = streams;
    el("grant-stream").replaceChildren(...streams.map(({ did, name }) => make("option", name, { value: did })));
    const now = Math.floor(Date.now() / MINUTE) * MINUTE;
    input("grant-from").value = entry(now - HOUR);
    input("grant-until").value = entry(now);
    input("grant-expires").value = entry(now + 7 * DAY);
    void this.leads();
  }

  clear(): void {
    this.streams = [];
    this.asked += 1;
    el<HTMLFormElement>("grant").reset();
    el("grant-stream").replaceChildren();
  }

  /** All, or some of those that the newest rows have. */
  private async leads(): Promise<void> {
    const asked = ++this.asked;
    const field = el("grant-leads");
    const [stream, door] = [this.stream(), this.entered()?.door];
    const box = (name: string, value: string) => {
      const label = make("label");
      const made = make("input", "", { type: "checkbox", value }) as HTMLInputElement;
      label.append(made, ` ${name}`);
      return { label, made };
    };
    const all = box("all", "");
    all.made.checked = true;
    field.replaceChildren(make("legend", "Leads"), all.label);
    if (!stream || !door) return;
    // A form that cannot name leads can still grant all of them.
    const names = await leadsOf(door, stream, Date.now()).catch(() => []);
    if (this.asked !== asked) return;
    const some = names.map((name) => box(name, name));
    const both = () => some.forEach(({ made }) => (made.disabled = all.made.checked));
    all.made.addEventListener("change", both);
    both();
    field.append(...some.map(({ label }) => label));
    if (some.length === 0) field.append(make("small", "Nothing of the last day is sealed: single leads cannot be named now."));
  }

  private stream(): Stream | undefined {
    const did = el<HTMLSelectElement>("grant-stream").value;
    return this.streams.find((stream) => stream.did === did);
  }

  private async grant(): Promise<void> {
    const [entered, stream] = [this.entered(), this.stream()];
    if (!entered || !stream) throw new BadInput("choose a stream");
    const requester = await this.requester();
    const [fromNs, untilNs] = inwards(time("grant-from"), time("grant-until"));
    const expiresNs = time("grant-expires");
    if (expiresNs !== null && expiresNs <= nsOf(Date.now())) throw new BadInput("it would have ended already: choose a later end");
    const grants = [{ did: stream.did, fromNs, untilNs, leads: chosenLeads() }];
    const terms: Terms = { requester, expiresNs, purpose: input("grant-purpose").value.trim(), grants };
    if (!(await this.looksGood(stream, terms))) return;
    const { door, file } = entered;
    const { sid, body } = await makeSession(door.keys, providerSeal(file), terms);
    say("Sent. It stands when the ledger has it …");
    await door.sendRecord("POST", "/v1/sessions", body);
    await this.granted(sid);
  }

  private looksGood(stream: Stream, { requester, purpose, expiresNs, grants }: Terms): Promise<boolean> {
    return confirmed(
      "Let her see this?",
      [
        ["To", requester.name],
        ["Fingerprint of her key; hers must be the same", fingerprint(hex(keyId(requester.sign)))],
        ["Stream", `${stream.name}, ${stream.did}`],
        ...grants.map((grant): [string, string, string] => ["What of it", spanWords(grant), `leads: ${leadWords(grant.leads)}`]),
        ["Ends by itself", boundary(expiresNs, "never; when you revoke it")],
        ["What for", purpose || "not said"],
      ],
      "Sign and grant",
      "Times are rounded inwards to whole 10 seconds, so that all of it can be proven.",
    );
  }

  private async requester(): Promise<PublicIdentity> {
    const file = input("grant-file").files?.[0];
    const text = (file ? await file.text() : el<HTMLTextAreaElement>("grant-to").value).trim();
    if (text === "") throw new BadInput("say to whom: choose her file NAME.pem.pub, or paste its text");
    if (text.includes("PRIVATE KEY")) throw new BadInput("this is a secret key, which belongs to her alone: ask for the file that ends in .pub");
    return parseIdentity(json.read(text, "her public identity"));
  }
}

/** Null: all. */
function chosenLeads(): string[] | null {
  const boxes = [...el("grant-leads").querySelectorAll<HTMLInputElement>("input")];
  const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
  return chosen.includes("") ? null : chosen;
}

function input(id: string): HTMLInputElement {
  return el<HTMLInputElement>(id);
}

/** What a field for a time by the reader's own clock is filled with. */
function entry(ms: number): string {
  return clock(ms - new Date(ms).getTimezoneOffset() * MINUTE).replace(" ", "T");
}

function time(id: string): bigint | null {
  const { value } = input(id);
  if (value === "") return null;
  const ms = new Date(value).getTime();
  if (!Number.isFinite(ms)) throw new BadInput(`${value} is no time`);
  return nsOf(ms);
}
