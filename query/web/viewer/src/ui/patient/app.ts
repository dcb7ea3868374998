/**
 * The patient's page: what is hers, who may see it, who looked.
 *
 *     trust file, key file ─▶ door ─▶ streams, sessions, trail
 *                               ▲            │
 *          grants, revocations, signed here ◀┘
 *
 * The server's word is taken for what is listed; what she grants and revokes is signed with her key and goes into the ledger.
 */

import { BadInput } from "chordae-chain";
import { Refusal } from "../../net/door.js";
import { makeRevocation, providerSeal } from "../../net/grant.js";
import { type Session, sessionsOf } from "../../net/sessions.js";
import { type Stream, streamsOf } from "../../net/streams.js";
import { trailOf } from "../../net/trail.js";
import { confirmed } from "../confirm.js";
import { type Entered, Entry } from "../entry.js";
import { el } from "../page.js";
import { once, say, trying } from "../said.js";
import { Table } from "../table.js";
import { type AllowedRow, allowedColumns, rowsOf, stillMay } from "./allowed.js";
import { Granting } from "./granting.js";
import { LookedAt } from "./looked.js";

const NO_PATIENT = "This key is no patient's, or the server does not know it as one: ask the operator (chordae party add FILE.pub --role patient).";

class Page {
  private entered: Entered | undefined;
  private streams: Stream[] = [];
  private sessions: Session[] = [];
  /** Those revoked here: the server keeps no record of them. */
  private revoked: Session[] = [];
  private readonly entry = new Entry((entered) => this.enter(entered));
  private readonly mine = new Table<Stream>(
    el("mine"),
    "",
    [
      { name: "Stream", cell: ({ name }) => name },
      { name: "Its id", cell: ({ did }) => did },
      { name: "Open grants", cell: ({ did }) => String(this.openOn(did)), by: ({ did }) => this.openOn(did) },
    ],
    ({ did }) => did,
    [],
    "No stream is yours yet: the operator says whose a stream is.",
  );
  private readonly allowed = new Table<AllowedRow>(
    el("allowed"),
    "",
    allowedColumns((did) => this.nameOf(did)),
    ({ key }) => key,
    [{ word: "Revoke", may: ({ session }) => stillMay(session), do: (row) => void trying(() => this.revoke(row.session)) }],
    "Nobody but you.",
  ).order(0, true);
  private readonly granting = new Granting(() => this.entered, async (sid) => {
    await this.look();
    say(`Granted: session ${sid}. She finds it in the viewer, or with chordae session list.`);
  });
  private readonly looked = new LookedAt(() => this.entered?.door);

  constructor() {
    once("again", "click", async () => {
      await this.look();
      say("This is how it is now.");
    });
    el("leave").addEventListener("click", () => this.leave());
  }

  private async enter(entered: Entered): Promise<void> {
    providerSeal(entered.file);
    if (!entered.door.keys.sealPublic) throw new BadInput(NO_PATIENT);
    const streams = await streamsOf(entered.door).catch(mine);
    // Operators are told all names; only a patient may ask who looked.
    if (streams[0]) await trailOf(entered.door, streams[0].did).catch(mine);
    this.entered = entered;
    await this.look().catch((e: unknown) => {
      this.entered = undefined;
      throw e;
    });
    el("connect").hidden = true;
    el("open").hidden = false;
    this.granting.offer(streams);
    this.looked.offer(streams);
    el("again").focus();
  }

  private async look(): Promise<void> {
    if (!this.entered) return;
    const { door } = this.entered;
    [this.streams, this.sessions] = [await streamsOf(door), await sessionsOf(door)];
    const gone = this.revoked.filter(({ sid }) => !this.sessions.some((one) => one.sid === sid));
    this.allowed.show(rowsOf([...this.sessions, ...gone], door.kid));
    this.mine.show(this.streams);
    this.looked.again();
  }

  private async revoke(session: Session): Promise<void> {
    if (!this.entered) return;
    const { door } = this.entered;
    const facts = rowsOf([session], door.kid).map((row): [string, string] => [row.who, `${this.nameOf(row.grant.did)}: ${row.span}`]);
    const ends = "From the next request on nothing more is sent. What was sent before stays with who has it. It cannot be taken back: grant anew.";
    if (!(await confirmed("Revoke this grant?", [...facts, ["Session", session.sid]], "Revoke", ends))) return;
    say("Sent. It stands when the ledger has it …");
    await door.sendRecord("DELETE", `/v1/sessions/${session.sid}`, await makeRevocation(door.keys, session.sid));
    this.revoked.push({ ...session, state: "revoked" });
    await this.look();
    say("Revoked: nothing more may be read with it.");
  }

  private openOn(did: string): number {
    const open = this.sessions.filter(({ state }) => state === "live");
    return open.filter(({ sections }) => sections.some(({ grants }) => grants.some((grant) => grant.did === did))).length;
  }

  private nameOf(did: string): string {
    return this.streams.find((stream) => stream.did === did)?.name ?? did;
  }

  private leave(): void {
    this.entered = undefined;
    [this.streams, this.sessions, this.revoked] = [[], [], []];
    this.mine.show([]);
    this.allowed.show([]);
    this.looked.clear();
    this.granting.clear();
    el("open").hidden = true;
    say("");
    this.entry.show("");
  }
}

/** To whom a stream does not belong, it does not exist. */
function mine(e: unknown): never {
  throw e instanceof Refusal && e.status !== 401 && e.ends ? new BadInput(NO_PATIENT) : e;
}

new Page();
