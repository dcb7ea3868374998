// Somebody at a browser: opens a page, shows a key, looks at pixels.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

/** Milliseconds after which something is not coming any more, on a machine that has other things to do. */
export const PATIENCE = 90_000;
const SIZE = { width: 1400, height: 900 };

export function browser() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}

export class Reader {
  /** In front of a page of a ward: the viewer, if none is named. */
  static async at(ward, within, { path = "/", ...options } = {}) {
    const reader = await Reader.alone(within, options);
    reader.ward = ward;
    await reader.page.goto(`${ward.url}${path}`);
    return reader;
  }

  /** A page of its own, with nothing kept from others; everything it asks for and complains of is noted. */
  static async alone(within, options = {}) {
    const reader = new Reader();
    const context = await within.newContext({ viewport: SIZE, ...options });
    context.setDefaultTimeout(PATIENCE);
    Object.assign(reader, { context, page: await context.newPage(), requests: [], complaints: [] });
    reader.page.on("request", (request) => reader.requests.push(request));
    reader.page.on("pageerror", (error) => reader.complaints.push(String(error)));
    reader.page.on("console", (message) => message.type() === "error" && reader.complaints.push(message.text()));
    return reader;
  }

  /** Gives trust file and key. */
  async connect(key) {
    const { page, ward } = this;
    this.key = key;
    await page.setInputFiles("#trust-file", ward.trust);
    await page.setInputFiles("#key-file", key);
    await page.click("#connect-form button");
  }

  /** Opens a stream in the viewer, as a clinician. */
  async open(did) {
    const { page, ward } = this;
    await this.connect(ward.roe);
    await page.click(`#grants button[data-did="${did}"]`);
    await page.waitForFunction(() => document.querySelector("#paper").dataset.from);
  }

  /** Opens it so that an instant stands in the middle. */
  async openAt(did, ms) {
    await this.open(did);
    await this.goTo(ms);
  }

  async goTo(ms) {
    await this.page.fill("#goto", new Date(ms).toISOString().slice(0, 19).replace("T", " "));
    await this.page.press("#goto", "Enter");
    await this.page.focus("#paper");
  }

  badge(colour, timeout = 30_000) {
    return this.page.waitForFunction((c) => document.querySelector("#paper").dataset.badge === c, colour, { timeout });
  }

  /** What the picture says it shows, once it has drawn what was done before. */
  async shown() {
    await this.page.evaluate(() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go))));
    const data = await this.page.evaluate(() => ({ ...document.querySelector("#paper").dataset }));
    return { badge: data.badge, ...Object.fromEntries(["from", "until", "speed", "rows"].map((key) => [key, Number(data[key])])) };
  }

  told() {
    return this.page.textContent("#told");
  }

  async close() {
    await this.context.close();
    // A reader who is no patient is told 404 when the viewer asks for her own streams; the browser notes it.
    assert.deepEqual(this.complaints.filter((text) => !/status of 404/.test(text)), []);
    // No external host, ever: everything comes from the server itself.
    for (const request of this.requests) assert.ok(request.url().startsWith(`${this.ward.url}/`), request.url());
  }

  /** That the secret half of the key went nowhere. */
  async keptItsKey() {
    const secret = readFileSync(this.key, "utf8").split("\n").filter((line) => line && !line.startsWith("-"));
    const sent = await Promise.all(this.requests.map(async (r) => r.url() + JSON.stringify(await r.allHeaders()) + (r.postData() ?? "")));
    assert.ok(sent.some((text) => text.includes("Chordae ")), "requests were signed");
    for (const text of sent) for (const line of secret) assert.ok(!text.includes(line));
    const kept = await this.page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
    for (const line of secret) assert.ok(!kept.includes(line));
  }

  /** A screenshot of an element, as pixels. */
  async pixels(selector = "#paper") {
    const png = await this.page.locator(selector).screenshot();
    const blank = await this.context.newPage();
    const { width, height, data } = await blank.evaluate(async (base64) => {
      const image = await createImageBitmap(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]));
      const ctx = new OffscreenCanvas(image.width, image.height).getContext("2d");
      ctx.drawImage(image, 0, 0);
      const { data } = ctx.getImageData(0, 0, image.width, image.height);
      let binary = "";
      for (let i = 0; i < data.length; i += 8192) binary += String.fromCharCode(...data.subarray(i, i + 8192));
      return { width: image.width, height: image.height, data: btoa(binary) };
    }, png.toString("base64"));
    await blank.close();
    return new Pixels(width, height, Buffer.from(data, "base64"));
  }
}

export class Pixels {
  constructor(width, height, data) {
    Object.assign(this, { width, height, data });
  }

  at(x, y) {
    const i = 4 * (Math.round(y) * this.width + Math.round(x));
    return [...this.data.subarray(i, i + 3)];
  }

  /** How many pixels of a rectangle are of a kind. */
  count(x, y, width, height, is) {
    let n = 0;
    for (let j = Math.round(y); j < y + height; j++) for (let i = Math.round(x); i < x + width; i++) n += is(this.at(i, j)) ? 1 : 0;
    return n;
  }
}

/** Kinds of pixels; a thin line that falls between two rows of them is only dark. */
export const dark = ([r, g, b]) => r < 160 && g < 160 && b < 160;
export const ink = ([r, g, b]) => r < 90 && g < 90 && b < 90;
export const gridRed = ([r, g, b]) => r > 200 && r - g > 25 && r - b > 25;
export const hatchGrey = ([r, g, b]) => r > 70 && r < 200 && b - r > 2 && b - r < 60 && g >= r;
