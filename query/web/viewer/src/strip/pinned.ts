/** The keys of a trust file that decide about a strip, as people compare them: over a telephone, with a letter. */

import { type TrustFile, hex, keyId } from "chordae-chain";

export interface Pinned {
  readonly role: "provider" | "log" | "witness";
  readonly name: string;
  /** Key id: SHA-256 of the public key, in groups of four digits, as `chordae trust show` prints it. */
  readonly fingerprint: string;
  /** Size of the log up to which it counts; null: it is in force. */
  readonly retired: bigint | null;
}

/** Providers sign what is anchored, logs sign checkpoints, witnesses cosign them. */
export function pinned({ providers, policy, retired }: TrustFile): Pinned[] {
  const of = (role: Pinned["role"], name: string, key: Uint8Array): Pinned => {
    const id = hex(keyId(key));
    return { role, name, fingerprint: grouped(id), retired: retired.get(id) ?? null };
  };
  return [
    ...providers.map((who) => of("provider", who.name, who.sign)),
    ...policy.logs.map((log) => of("log", log.name, log.key)),
    ...[...policy.witnesses].map(([name, witness]) => of("witness", name, witness.key)),
  ];
}

function grouped(digits: string): string {
  return digits.replace(/(.{4})(?=.)/g, "$1 ");
}
