/** Colours of the picture. Everything that has one has a shape or a word as well. */

export const COLOURS = {
  paper: "#fffaf8",
  small: "#f6d9d4",
  large: "#e8a79d",
  trace: "#101010",
  text: "#1b1b1b",
  hatch: "#5a6270",
  blank: "#eef0f3",
  mismatch: "#b00020",
  mismatchPaper: "#ffe9ec",
  outside: "#d5d8dd",
  calipers: "#0b57d0",
  note: "#6a1b9a",
} as const;
