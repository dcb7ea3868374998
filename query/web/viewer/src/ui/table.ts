/**
 * A table that is shown anew as often as one likes: rows keep their place, their elements and the keyboard's focus. Its headings are
 * buttons that sort. On a narrow screen each row is a card (pages.css).
 */

import { make } from "./page.js";

/** A state: by word and shape; the colour only repeats it. */
export interface State {
  readonly word: string;
  readonly shape: string;
  readonly tone: "good" | "wait" | "bad" | "none";
}

export interface Column<T> {
  readonly name: string;
  readonly cell: (row: T) => string | State;
  /** What it is sorted by; the text, where nothing else is said. */
  readonly by?: (row: T) => string | number | bigint;
  /** The whole, where the cell shows a part of it. */
  readonly title?: (row: T) => string;
}

/** A button in each row. */
export interface Deed<T> {
  readonly word: string;
  readonly may: (row: T) => boolean;
  readonly do: (row: T) => void;
}

interface Line<T> {
  row: T;
  readonly element: HTMLElement;
  readonly cells: HTMLElement[];
  readonly deeds: HTMLButtonElement[];
}

export class Table<T> {
  private readonly body = make("tbody", "", { role: "rowgroup" });
  private readonly none = make("p");
  private readonly heads: HTMLElement[];
  private lines = new Map<string, Line<T>>();
  private sorted = { column: 0, up: true };

  /** `key` tells rows apart. */
  constructor(
    host: HTMLElement,
    caption: string,
    private readonly columns: readonly Column<T>[],
    private readonly key: (row: T) => string,
    private readonly deeds: readonly Deed<T>[] = [],
    private readonly empty = "Nothing yet.",
  ) {
    const table = make("table", "", { role: "table" });
    const head = make("tr", "", { role: "row" });
    this.heads = columns.map(({ name }, at) => {
      const cell = make("th", "", { role: "columnheader", scope: "col" });
      const button = make("button", name, { type: "button" });
      button.addEventListener("click", () => this.sort(at));
      cell.append(button);
      return cell;
    });
    head.append(...this.heads);
    if (deeds.length > 0) head.append(make("td", "", { role: "cell" }));
    const top = make("thead", "", { role: "rowgroup" });
    top.append(head);
    table.append(make("caption", caption), top, this.body);
    host.replaceChildren(table, this.none);
    this.mark();
    this.show([]);
  }

  /** Begins with another order than that of the first column. */
  order(column: number, up: boolean): this {
    this.sorted = { column, up };
    this.mark();
    return this;
  }

  show(rows: readonly T[]): void {
    const before = this.lines;
    this.lines = new Map(rows.map((row) => [this.key(row), this.line(row, before.get(this.key(row)))]));
    for (const [key, { element }] of before) if (!this.lines.has(key)) element.remove();
    this.none.textContent = rows.length === 0 ? this.empty : "";
    this.arrange();
  }

  private line(row: T, before: Line<T> | undefined): Line<T> {
    const line = before ?? this.fresh(row);
    line.row = row;
    this.columns.forEach(({ cell, title }, i) => {
      const at = line.cells[i] as HTMLElement;
      write(at, cell(row));
      if (title) at.title = title(row);
    });
    this.deeds.forEach(({ may }, i) => ((line.deeds[i] as HTMLElement).hidden = !may(row)));
    return line;
  }

  private fresh(row: T): Line<T> {
    const element = make("tr", "", { role: "row", "data-key": this.key(row) });
    const cells = this.columns.map(({ name }) => make("td", "", { role: "cell", "data-name": name }));
    element.append(...cells);
    const line: Line<T> = { row, element, cells, deeds: [] };
    for (const deed of this.deeds) {
      const button = make("button", deed.word, { type: "button" }) as HTMLButtonElement;
      button.addEventListener("click", () => deed.do(line.row));
      line.deeds.push(button);
    }
    if (line.deeds.length > 0) {
      const last = make("td", "", { role: "cell" });
      last.append(...line.deeds);
      element.append(last);
    }
    return line;
  }

  private sort(column: number): void {
    this.sorted = { column, up: this.sorted.column === column ? !this.sorted.up : true };
    this.mark();
    this.arrange();
  }

  private mark(): void {
    this.heads.forEach((head, i) => {
      const order = i !== this.sorted.column ? "none" : this.sorted.up ? "ascending" : "descending";
      head.setAttribute("aria-sort", order);
    });
  }

  /** Rows that stand where they belong are not touched, and the focus stays where it was. */
  private arrange(): void {
    const column = this.columns[this.sorted.column];
    if (!column) return;
    const by = column.by ?? ((row: T) => words(column.cell(row)));
    const way = this.sorted.up ? 1 : -1;
    const wanted = [...this.lines.values()].map((line) => ({ line, of: by(line.row) }));
    wanted.sort((a, b) => (a.of < b.of ? -way : a.of > b.of ? way : 0));
    const focus = document.activeElement;
    wanted.forEach(({ line: { element } }, i) => {
      if (this.body.children[i] !== element) this.body.insertBefore(element, this.body.children[i] ?? null);
    });
    if (focus instanceof HTMLElement && focus !== document.activeElement && this.body.contains(focus)) focus.focus();
  }
}

function words(cell: string | State): string {
  return typeof cell === "string" ? cell : cell.word;
}

function write(at: HTMLElement, cell: string | State): void {
  const shown = typeof cell === "string" ? cell : `${cell.shape} ${cell.word}`;
  if (at.textContent !== shown) {
    if (typeof cell === "string") at.textContent = cell;
    else at.replaceChildren(make("span", cell.shape, { "aria-hidden": "true" }), ` ${cell.word}`);
  }
  at.className = typeof cell === "string" ? "" : `state ${cell.tone}`;
}
