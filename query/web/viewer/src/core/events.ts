/** Server-sent events out of pieces of text, as the HTML standard has them; a bound on what is not ended yet. */

/** Characters of one event. A frame of the device is at most 256 KiB; as JSON a few times that. */
const EVENT_MAX = 16 * 1024 * 1024;

export interface ServerEvent {
  readonly name: string;
  readonly data: string;
  readonly id: string | null;
}

export class Events {
  private rest = "";

  /** The events that end in this piece. Throws where one is too long. */
  take(piece: string): ServerEvent[] {
    // A CR at the very end may be half of a CRLF: it waits for the next piece.
    const text = this.rest + piece;
    const whole = text.endsWith("\r") ? text.length - 1 : text.length;
    const blocks = text.slice(0, whole).split(/\r\n\r\n|\n\n|\r\r/);
    this.rest = (blocks.pop() as string) + text.slice(whole);
    if (this.rest.length > EVENT_MAX) throw new Error("an event that does not end");
    return blocks.map(parse).filter((event) => event !== undefined);
  }
}

function parse(block: string): ServerEvent | undefined {
  let [name, id] = ["message", null as string | null];
  const data: string[] = [];
  for (const line of block.split(/\r\n|\n|\r/)) {
    const [field, value] = [line.split(":", 1)[0], line.replace(/^[^:]*:? ?/, "")];
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
    else if (field === "id") id = value;
  }
  return data.length > 0 ? { name, data: data.join("\n"), id } : undefined;
}
