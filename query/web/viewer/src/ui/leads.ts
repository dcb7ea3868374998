/** Which leads are drawn, and how they are laid out. Leads are what the rows have; they keep the order they came in. */

import { type Layout, type Strip, possible, strips } from "../core/layout.js";
import { el, make, options } from "./page.js";

export class Leads {
  private layout: Layout = "rows";
  private known: string[] = [];
  private readonly hidden = new Set<string>();

  constructor(private readonly changed: () => void) {
    options("layout", possible([]), this.layout);
  }

  strips(): Strip[] {
    return strips(this.layout, this.known.filter((lead) => !this.hidden.has(lead)));
  }

  setLayout(layout: Layout): void {
    this.layout = layout;
    options("layout", possible(this.known), layout);
    this.changed();
  }

  nextLayout(): void {
    this.setLayout(possible(this.known).find((one) => one !== this.layout) ?? this.layout);
  }

  /** Takes note of leads that have not been seen before. */
  learn(parts: Iterable<{ readonly leads: readonly { readonly name: string }[] }>): void {
    const found = [...parts].flatMap((part) => part.leads.map((lead) => lead.name));
    const fresh = [...new Set(found)].filter((name) => !this.known.includes(name));
    if (fresh.length === 0) return;
    this.known = [...this.known, ...fresh];
    this.setLayout(possible(this.known).at(-1) ?? "rows");
    el("leads").querySelector("div")?.replaceChildren(...this.known.map((lead) => this.box(lead)));
  }

  private box(lead: string): HTMLElement {
    const label = make("label");
    const box = make("input", "", { type: "checkbox" }) as HTMLInputElement;
    box.checked = !this.hidden.has(lead);
    box.addEventListener("change", () => {
      if (box.checked) this.hidden.delete(lead);
      else this.hidden.add(lead);
      this.changed();
    });
    label.append(box, ` ${lead}`);
    return label;
  }
}
