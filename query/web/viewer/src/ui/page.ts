/** The page's elements, by id; one that is not there is a mistake of ours, told at once. */

export function el<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** An element with a text: never markup, whatever a stream or a server calls itself. */
export function make(tag: string, text = "", more: Record<string, string> = {}): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(more)) made.setAttribute(name, value);
  return made;
}

/** A list of terms, each with its lines. */
export function terms(all: Iterable<readonly [string, ...string[]]>): HTMLElement {
  const list = make("dl");
  for (const [term, ...lines] of all) list.append(make("dt", term), ...lines.map((line) => make("dd", line)));
  return list;
}

/** What this browser keeps between visits: no key, no row. */
export const KEPT = {
  trust: "chordae trust",
  density: "chordae density",
  author: "chordae author",
} as const;

/** Fills a select. */
export function options(id: string, values: readonly string[], chosen: string, unit = ""): void {
  el(id).replaceChildren(...values.map((value) => make("option", value + unit, { value })));
  el<HTMLSelectElement>(id).value = chosen;
}

export function press(command: string, is: boolean): void {
  document.querySelector(`[data-do="${command}"]`)?.setAttribute("aria-pressed", String(is));
}
