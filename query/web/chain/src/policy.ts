/**
 * Policies: which signatures make a checkpoint count (C2SP tlog-policy).
 *
 *     log chordae.local/x+hash+key                     one of the logs must have signed
 *     witness A a.example/w+hash+key [url]             (type 0x04; another could never be met, and is refused)
 *     group G 2 A B C                                  any, all, or so many of its members
 *     quorum G                                         none: the log's signature is enough
 *
 * A checkpoint that the log has signed and too few witnesses have cosigned is not damaged: cosignatures may come.
 */

import { BadInput, U64_MAX, equal, hex, utf8 } from "./bytes.js";
import { type Checkpoint, open as openCheckpoint, trustedLog } from "./checkpoint.js";
import { cosignedAt, trustedWitness } from "./cosignature.js";
import { keyId } from "./keys.js";
import { type Note, type NoteKey, parseNote } from "./note.js";

const TEXT_MAX = 1024 * 1024;
/** Logs, witnesses and groups, each. */
const NAMES_MAX = 64;

/** A policy, read and checked. */
export interface Policy {
  readonly logs: NoteKey[];
  /** By the names that the policy gives them. */
  readonly witnesses: ReadonlyMap<string, NoteKey>;
  /** Each names only what stands before it. */
  readonly groups: ReadonlyMap<string, { readonly threshold: number; readonly members: string[] }>;
  /** The witness or group that must have cosigned; null where nobody must. */
  readonly quorum: string | null;
  /** Keys that were replaced, by their key ids in hex, each with the largest size that it may sign. */
  readonly retired: ReadonlyMap<string, bigint>;
}

/** A checkpoint that a trusted log has signed. */
export interface Opened {
  readonly checkpoint: Checkpoint;
  /** The witnesses that have cosigned it, and when, in seconds since 1970. */
  readonly cosigned: { readonly witness: string; readonly timeS: bigint }[];
  /** What the quorum lacks, for people: `C`, or `1 of G (B, C)`. Null: the checkpoint counts. */
  readonly lacks: string | null;
}

/** Reads a policy. Throws {@link BadInput} naming the line that is wrong. */
export function parse(text: string): Policy {
  const refuse: (why: string) => never = (why) => {
    throw new BadInput(`policy: ${why}`);
  };
  if (utf8(text).length > TEXT_MAX || /[\x00-\x08\x0b-\x1f\x7f]/.test(text)) refuse("too long, or a control character");
  const logs: NoteKey[] = [];
  const witnesses = new Map<string, NoteKey>();
  const groups = new Map<string, { threshold: number; members: string[] }>();
  /** Whether a name is a group's member already. */
  const names = new Map<string, boolean>();
  let quorum: string | undefined;
  const define = (name: string): void => {
    if (name === "none" || names.has(name)) refuse(`${name} is taken`);
    names.set(name, false);
  };
  const join = (name: string): void => {
    if (names.get(name) !== false) refuse(`${name} is not defined above, or a member twice`);
    names.set(name, true);
  };
  for (const line of text.split("\n")) {
    const [kind = "", ...rest] = line.split(/[ \t]+/).filter((w) => w !== "");
    const [first = "", second = "", ...members] = rest;
    if (kind === "" || kind.startsWith("#")) continue;
    if (kind === "log" && (rest.length === 1 || rest.length === 2)) {
      logs.push(trustedLog(first));
    } else if (kind === "witness" && (rest.length === 2 || rest.length === 3)) {
      define(first);
      witnesses.set(first, trustedWitness(second));
    } else if (kind === "group" && rest.length >= 3) {
      members.forEach(join);
      define(first);
      const word = new Map([["any", 1], ["all", members.length]]).get(second); // prettier-ignore
      const k = word ?? (/^[1-9][0-9]*$/.test(second) ? Number(second) : 0);
      if (k < 1 || k > members.length) refuse(`group ${first} has no usable threshold`);
      groups.set(first, { threshold: k, members });
    } else if (kind === "quorum" && rest.length === 1 && quorum === undefined) {
      if (first !== "none" && !names.has(first)) refuse(`${first} is not defined above`);
      quorum = first;
    } else {
      refuse(`not a log, witness, group or (one) quorum line: ${line}`);
    }
  }
  const keys = [...logs, ...witnesses.values()].map((one) => one.key);
  if (keys.some((key, i) => keys.findIndex((other) => equal(other, key)) < i)) refuse("a key occurs twice");
  if (Math.max(logs.length, witnesses.size, groups.size) > NAMES_MAX) refuse("too many logs, witnesses or groups");
  if (quorum === undefined || logs.length === 0) return refuse("there is no quorum line, or no log");
  return { logs, witnesses, groups, quorum: quorum === "none" ? null : quorum, retired: new Map() };
}

/** Opens a checkpoint: signed by a log of the policy, and by which of its witnesses. Throws {@link BadInput}. */
export function open(policy: Policy, text: string): Opened {
  const note = parseNote(text);
  const checkpoint = signed(policy, note);
  const cosigned = [...policy.witnesses].flatMap(([witness, key]) => {
    const timeS = cosignedAt(note, key);
    return timeS === undefined || checkpoint.size > until(policy, key) ? [] : [{ witness, timeS }];
  });
  const lacks = lacking(policy, new Set(cosigned.map((one) => one.witness)));
  return { checkpoint, cosigned, lacks };
}

/** The checkpoint, if one of the logs has signed it while its key was in force. */
function signed(policy: Policy, note: Note): Checkpoint {
  let last: unknown = new BadInput("the policy trusts no log");
  let retired: BadInput | undefined;
  for (const log of policy.logs) {
    try {
      const checkpoint = openCheckpoint(note, log);
      const size = until(policy, log);
      if (checkpoint.size <= size) return checkpoint;
      retired = new BadInput(`the log key that signed the checkpoint was retired at size ${size}`);
    } catch (e) {
      last = e;
    }
  }
  throw retired ?? last;
}

/** The largest size that a key may sign. */
function until(policy: Policy, { key }: NoteKey): bigint {
  return policy.retired.get(hex(keyId(key))) ?? U64_MAX;
}

/** What the quorum lacks. A name that is not known lacks: nothing counts by mistake. */
function lacking({ witnesses, groups, quorum }: Policy, cosigned: Set<string>): string | null {
  if (quorum === null) return null;
  const known = new Map<string, string | null>();
  const lacks = (name: string) => (known.has(name) ? known.get(name) : name) ?? null;
  for (const name of witnesses.keys()) known.set(name, cosigned.has(name) ? null : name);
  for (const [name, { threshold, members }] of groups) {
    const lack = members.map(lacks).filter((word) => word !== null);
    const short = threshold - (members.length - lack.length);
    known.set(name, short > 0 ? `${short} of ${name} (${lack.join(", ")})` : null);
  }
  return lacks(quorum);
}
