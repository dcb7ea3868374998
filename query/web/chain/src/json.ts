/**
 * JSON, read strictly: numbers stay as they are spelled (64-bit integers do not fit a `number`), a key occurs once,
 * a text can be UTF-8, nesting is bounded.
 */

import { BadInput, fromBase64, fromDecimal, fromHex } from "./bytes.js";

const DEPTH_MAX = 32;
const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /null|true|false/y;

/** A number as it is spelled. */
export class Num {
  constructor(readonly token: string) {}
}

export type Json = null | boolean | string | Num | Json[] | Map<string, Json>;

/** Reads one value that fills the text. Throws {@link BadInput}. */
export function read(text: string, what: string): Json {
  let at = 0;
  const bad = (why: string) => new BadInput(`${what}: not JSON: ${why} at ${at}`);
  const take = (pattern: RegExp): string => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0] ?? "";
    at += found.length;
    return found;
  };
  const sign = (one: string): boolean => {
    take(SPACE);
    if (text[at] !== one) return false;
    at += 1;
    take(SPACE);
    return true;
  };

  const string = (): string => {
    let end = at + 1;
    while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
    let found: string;
    try {
      found = JSON.parse(text.slice(at, end + 1)) as string;
    } catch {
      throw bad("a broken string");
    }
    if (/\p{Surrogate}/u.test(found)) throw bad("half a character");
    at = end + 1;
    return found;
  };

  const value = (depth: number): Json => {
    if (depth > DEPTH_MAX) throw bad("nested too deep");
    if (sign("[")) {
      const items: Json[] = [];
      if (sign("]")) return items;
      do items.push(value(depth + 1));
      while (sign(","));
      if (!sign("]")) throw bad("an array without an end");
      return items;
    }
    if (sign("{")) {
      const found = new Map<string, Json>();
      if (sign("}")) return found;
      do {
        if (text[at] !== '"') throw bad("a key that is no string");
        const key = string();
        if (found.has(key)) throw bad(`the key ${key} twice`);
        if (!sign(":")) throw bad("a key without a value");
        found.set(key, value(depth + 1));
      } while (sign(","));
      if (!sign("}")) throw bad("an object without an end");
      return found;
    }
    if (text[at] === '"') return string();
    const word = take(WORD);
    if (word !== "") return word === "null" ? null : word === "true";
    const token = take(NUMBER);
    if (token === "") throw bad("no value");
    return new Num(token);
  };

  const found = value(0);
  take(SPACE);
  if (at !== text.length) throw bad("something follows");
  return found;
}

/** Writes a value with sorted keys, no spaces, numbers as they were spelled. */
export function write(value: Json): string {
  if (value instanceof Num) return value.token;
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  if (value instanceof Map) {
    const keys = [...value.keys()].sort();
    return `{${keys.map((key) => `${JSON.stringify(key)}:${write(value.get(key) as Json)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

/** An object with all of these keys and, beside them, at most the optional ones. */
export function fields(value: Json, what: string, must: string[], may: string[] = []): (key: string) => Json {
  const fits =
    value instanceof Map &&
    must.every((key) => value.has(key)) &&
    [...value.keys()].every((key) => must.includes(key) || may.includes(key));
  if (!fits) throw new BadInput(`${what}: must be an object with the keys ${must.join(", ")} and no unknown ones`);
  return (key) => value.get(key) ?? null;
}

export function integer(value: Json | undefined, what: string, low: bigint, high: bigint): bigint {
  return fromDecimal(value instanceof Num ? value.token : "", what, low, high);
}

export function string(value: Json | undefined, what: string): string {
  if (typeof value !== "string") throw new BadInput(`${what}: must be a text`);
  return value;
}

export function items(value: Json | undefined, what: string, most: number): Json[] {
  if (!Array.isArray(value) || value.length > most) throw new BadInput(`${what}: must be an array of at most ${most}`);
  return value;
}

export function pair(value: Json | undefined, what: string, low: bigint, high: bigint): [bigint, bigint] {
  const both = items(value, what, 2);
  return [integer(both[0], what, low, high), integer(both[1], what, low, high)];
}

export function bytes(value: Json | undefined, what: string, size: number): Uint8Array {
  return fromHex(string(value, what), what, size);
}

export function base64(value: Json | undefined, what: string): Uint8Array {
  return fromBase64(string(value, what), what);
}
