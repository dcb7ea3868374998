// One MQTT.js client: publishes a list, listens for a list, prints what happens as JSON lines.
// Usage: node client.mjs '{"url","version","ca","cert","key","subscribe":[..],"publish":[{"topic","payload","qos"}],"messages":n}'
// It ends after so many messages, or with the one whose payload is `last` (base64).
import fs from "node:fs";
import mqtt from "mqtt";

const wish = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const tls = Object.fromEntries(["ca", "cert", "key"].filter((k) => wish[k]).map((k) => [k, fs.readFileSync(wish[k])]));
const client = mqtt.connect(wish.url, {
  protocolVersion: wish.version,
  clientId: wish.client,
  reconnectPeriod: 0,
  ...tls,
});
let heard = 0;
let last = !wish.last;
let ending = false;
const fail = (why) => {
  if (ending) return;
  say({ error: String(why) });
  process.exit(1);
};
client.on("error", fail);
client.on("close", () => fail("closed"));
client.on("message", (topic, payload, packet) => {
  say({ topic, payload: payload.toString("base64"), qos: packet.qos, retain: packet.retain });
  heard += 1;
  last ||= payload.toString("base64") === wish.last;
  done();
});
let published = false;
const done = () => {
  if (published && last && heard >= (wish.messages ?? 0)) {
    if (ending) return;
    ending = true;
    client.end(false, {}, () => process.exit(0));
  }
};
client.on("connect", async () => {
  try {
    for (const filter of wish.subscribe ?? []) {
      const granted = await client.subscribeAsync(filter, { qos: 1 });
      say({ subscribed: filter, granted: granted.map((g) => g.qos) });
    }
    for (const { topic, payload, qos } of wish.publish ?? []) {
      // Resolves when PUBACK or PUBCOMP has come.
      await client.publishAsync(topic, Buffer.from(payload, "base64"), { qos });
      say({ acknowledged: topic, qos });
    }
  } catch (why) {
    fail(why);
  }
  published = true;
  done();
});
