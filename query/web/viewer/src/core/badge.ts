/**
 * The integrity badge: what this browser found out itself about what is on the screen, never what the server says of
 * itself. The worst of the visible parts is shown; each state has its own sign and words, so none needs its colour.
 */

/** What is known of one part of the picture. */
export type Standing =
  /** Every row leads to the trusted ledger. */
  | "anchored"
  /** Every provable row leads to a chain that is not (yet) in the ledger, or stands in a page that is not whole. */
  | "linked"
  /** Acknowledged, not sealed yet. */
  | "open"
  /** Something contradicts something. */
  | "mismatch"
  /** A summary: rows are left out, so nothing can prove it. */
  | "summary"
  /** Not there yet, or not to be had. */
  | "waiting"
  /** No rows and no chunk. */
  | "empty";

export type Colour = "green" | "amber" | "red" | "grey";

export interface Badge {
  readonly colour: Colour;
  readonly sign: string;
  readonly word: string;
  /** One sentence for people. */
  readonly sentence: string;
}

const BADGES: Record<Standing, Badge> = {
  mismatch: {
    colour: "red", sign: "✖", word: "does not match",
    sentence: "Part of what is shown does not agree with its proof. Do not rely on it, and tell whoever runs the server.",
  },
  waiting: {
    colour: "grey", sign: "?", word: "not checked yet",
    sentence: "Part of what should be shown here has not come, so nothing is known of it.",
  },
  summary: {
    colour: "grey", sign: "?", word: "summary, not provable",
    sentence: "From this far away only the lowest and highest values are shown. Zoom in until the rows themselves are shown: those are checked.",
  },
  open: {
    colour: "amber", sign: "◔", word: "live, not sealed yet",
    sentence: "The newest part is stored but not sealed yet; it can be checked some seconds after its slot has ended.",
  },
  linked: {
    colour: "amber", sign: "◑", word: "chained, not anchored yet",
    sentence: "What is shown agrees with its proof as far as there is one, but part of it does not lead to the ledger, yet.",
  },
  anchored: {
    colour: "green", sign: "✔", word: "anchored",
    sentence: "This browser recomputed the digests of every row shown; they lead to the ledger that your trust file names.",
  },
  empty: {
    colour: "grey", sign: "?", word: "no data",
    sentence: "There are no rows here, so there is nothing to check.",
  },
}; // prettier-ignore

/** From the worst to the best. */
const ORDER = ["mismatch", "waiting", "summary", "open", "linked", "anchored", "empty"] as const;

/** The badge for these parts together. */
export function badge(parts: Iterable<Standing>): Badge {
  const all = new Set(parts);
  return BADGES[ORDER.find((standing) => all.has(standing)) ?? "empty"];
}
