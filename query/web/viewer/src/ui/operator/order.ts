/** The form of a command: the server checks it once more before it is kept for the device (docs/FORMATS.md 2). */

import { BadInput } from "chordae-chain";
import { type Device, type Order } from "../../net/admin.js";
import { confirmed } from "../confirm.js";
import { el, make } from "../page.js";
import { once } from "../said.js";

const KNOWN: Record<string, string> = {
  identify: "identify: show yourself",
  "sync-time": "sync-time: set your clock",
  "set-rate": "set-rate: samples per second",
  "set-leads": "set-leads: which leads",
  start: "start sending",
  stop: "stop sending",
};

export class OrderForm {
  private known = "";

  constructor(private readonly send: (order: Order) => Promise<void>) {
    const options = Object.entries(KNOWN).map(([value, words]) => make("option", words, { value }));
    el("order-do").replaceChildren(...options);
    el("order-do").addEventListener("change", () => this.fit());
    this.fit();
    once("order", "submit", () => this.order());
  }

  /** Devices that take commands. What is chosen stays chosen. */
  offer(devices: readonly Device[]): void {
    const ids = devices.filter(({ kind, enabled }) => kind === "device" && enabled).map(({ id }) => id);
    if (ids.join() === this.known) return;
    this.known = ids.join();
    const select = el<HTMLSelectElement>("order-device");
    const { value } = select;
    select.replaceChildren(...ids.map((id) => make("option", id, { value: id })));
    if (ids.includes(value)) select.value = value;
  }

  /** From a device's line. */
  begin(device: string): void {
    el<HTMLSelectElement>("order-device").value = device;
    el("order-do").focus();
  }

  private fit(): void {
    el("order-rate").hidden = value("order-do") !== "set-rate";
    el("order-leads").hidden = value("order-do") !== "set-leads";
  }

  private async order(): Promise<void> {
    const [device, expires] = [value("order-device"), Number(value("order-expires"))];
    if (device === "") throw new BadInput("choose a device: chordae device add makes one");
    const order: Order = { device, command: commandOf(value("order-do")), expires_s: expires };
    const stops = order.command["do"] === "stop" ? "While it is stopped nothing is recorded." : "";
    const facts: [string, string][] = [["Device", device], ["Command", JSON.stringify(order.command)], ["Is kept for it for", `${expires} s`]];
    if (await confirmed("Send this command?", facts, "Sign and send", stops)) await this.send(order);
  }
}

function commandOf(what: string): Record<string, unknown> {
  const stream = value("order-stream").trim();
  const about = stream === "" ? {} : { stream };
  if (what === "set-rate") {
    if (value("order-hz") === "") throw new BadInput("say how many samples per second");
    return { do: what, hz: Number(value("order-hz")), ...about };
  }
  if (what === "set-leads") {
    const names = value("order-names").trim();
    if (names === "") throw new BadInput("name the leads, with commas between, or say how many");
    const leads = /^\d+$/.test(names) ? { count: Number(names) } : { names: names.split(",").map((name) => name.trim()) };
    return { do: what, ...leads, ...about };
  }
  return { do: what, ...about };
}

function value(id: string): string {
  return el<HTMLInputElement | HTMLSelectElement>(id).value;
}
