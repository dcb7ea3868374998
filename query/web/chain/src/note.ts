/**
 * Signed notes (C2SP signed-note) and their verifier keys.
 *
 *     body, lines                                    vkey = name+{SHA-256(name \n type key)[..4]}+{base64(type key)}
 *                                                    empty line
 *     — name base64(key hash, signature)             one line or more
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { BadInput, concat, equal, fromBase64, hex, utf8 } from "./bytes.js";
import { strongKey } from "./keys.js";

/** Bytes of a note. */
const TEXT_MAX = 64 * 1024;
const SIGNATURES_MAX = 100;
const NAME_BYTES_MAX = 255;

/** A key that signs notes under a name. */
export interface NoteKey {
  readonly name: string;
  /** Ed25519. */
  readonly key: Uint8Array;
  /** First 4 bytes of the key's hash. */
  readonly id: Uint8Array;
}

/** Reads the one spelling of a verifier key whose type byte is `type`. Throws {@link BadInput}. */
export function noteKey(vkey: string, type: number): NoteKey {
  const [name = "", digits = "", ...rest] = vkey.split("+");
  const typed = fromBase64(rest.join("+"), "verifier key");
  const id = sha256(concat(utf8(`${name}\n`), typed)).slice(0, 4);
  if (!isName(name) || typed[0] !== type || typed.length !== 33 || hex(id) !== digits) {
    throw new BadInput(`${vkey} is not a verifier key of type 0x0${type}`);
  }
  strongKey(typed.slice(1));
  return { name, key: typed.slice(1), id };
}

function isName(name: string): boolean {
  return name !== "" && utf8(name).length <= NAME_BYTES_MAX && !/[\s\p{Cc}+]/u.test(name);
}

/** A note as read, nothing of it verified. */
export interface Note {
  /** What is signed, with its last line feed. */
  readonly body: string;
  readonly signatures: { readonly name: string; readonly id: Uint8Array; readonly signature: Uint8Array }[];
}

/** Reads a note. Throws {@link BadInput}. */
export function parseNote(text: string): Note {
  const end = text.lastIndexOf("\n\n");
  const lines = text.slice(end + 2);
  if (end < 0 || utf8(text).length > TEXT_MAX || !lines.endsWith("\n") || /[\x00-\x09\x0b-\x1f]/.test(text)) {
    throw new BadInput("not a signed note");
  }
  const signatures = lines.slice(0, -1).split("\n").map(signature);
  if (signatures.length > SIGNATURES_MAX) throw new BadInput("the note has too many signatures");
  return { body: text.slice(0, end + 1), signatures };
}

function signature(line: string): Note["signatures"][number] {
  const [dash, name = "", letters = "", ...more] = line.split(" ");
  const raw = fromBase64(letters, "signature of a note");
  if (dash !== "—" || !isName(name) || more.length > 0 || raw.length < 5) {
    throw new BadInput("a signature line of the note is malformed");
  }
  return { name, id: raw.slice(0, 4), signature: raw.slice(4) };
}

/** The signature by this key, if the note has one; the first, if it has several. Unknown keys are ignored. */
export function signatureBy(note: Note, key: NoteKey): Uint8Array | undefined {
  return note.signatures.find((s) => s.name === key.name && equal(s.id, key.id))?.signature;
}
