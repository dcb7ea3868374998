/**
 * The verifier of chordae for browsers and Node: the twin of `anchor/chain`, written from docs/FORMATS.md. Of what is
 * made there it makes ledger entries, with a key that it never sees.
 *
 *     const verdict = verify(parseBundle(json), rows, { did, window, leads }, parseTrust(text));
 *     verdict.verdict;   // "anchored", "unanchored" or "damaged"; look at unprovenRows and newer, too
 *
 * It asks nobody and keeps nothing. Readers throw {@link BadInput}; `verify` throws nothing, it tells findings.
 */

export { BadInput, concat, fromHex, hex, utf8 } from "./bytes.js";
export { type ProofBundle, parse as parseBundle } from "./bundle.js";
export { type Cbor, encode as encodeCbor } from "./cbor.js";
export { type Checkpoint } from "./checkpoint.js";
export { type SignedEvent, decode as decodeEvent, sign as signEvent, signedBy } from "./event.js";
export { type Code, type Finding } from "./finding.js";
export * as json from "./json.js";
export { type PublicIdentity, identity as parseIdentity, keyId, verifyStrict } from "./keys.js";
export { type Link, decode as decodeLink, objectName, parseDid } from "./link.js";
export { type Tree, consistent, included, leafHash } from "./merkle.js";
export { type ChunkMeta, type Lead, parse as parseMeta } from "./meta.js";
export { type NoteKey } from "./note.js";
export { NO_VALUE } from "./pages.js";
export { type Opened, type Policy, open as openCheckpoint, parse as parsePolicy } from "./policy.js";
export { type Receipt, verify as verifyReceipt } from "./receipt.js";
export { type TrustFile, countsUpto, parse as parseTrust } from "./trust.js";
export { type AnswerRows, type Asked, type BundleVerdict, type KnownChunk, verify, verifyMetadata } from "./verify.js";
