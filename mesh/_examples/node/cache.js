// The mesh's cache from Node.js: what one process sets, every other one reads, whatever node it is connected to.
//
//   NATS_URL=$(cat ../../../millrace-data/client.url) node cache.js
import { connect } from "@nats-io/transport-node";

const url = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
const name = "cache-example-" + process.pid; // members may only listen to inboxes under their own name
const nc = await connect({ servers: url.host, token: url.username || undefined, name, inboxPrefix: "_INBOX_" + name });

async function ask(verb, request) {
  const reply = (await nc.request("api.cache." + verb, JSON.stringify(request), { timeout: 40_000 })).json();
  if (reply.error) throw Object.assign(new Error(reply.error), { code: reply.code });
  return reply;
}

export const cache = {
  /** The value of a key, or undefined. */
  get: async (key) => (await ask("get", { key })).value,
  /** Sets a value (any JSON) for a time such as "10m". */
  set: (key, value, ttl = "10m") => ask("set", { key, value, ttl }),
  delete: (key) => ask("delete", { key }),
  /** The value of a key, or what load makes. Of all processes that ask at once, one loads and the others wait for it. */
  async getOrLoad(key, load, ttl = "10m") {
    const reply = await ask("get", { key, load: "30s" });
    if (reply.found) return reply.value;
    const value = await load();
    await this.set(key, value, ttl);
    return value;
  },
};

await cache.set("user:1", { name: "Ada" }, "1m");
console.log("get", JSON.stringify(await cache.get("user:1")));
let loads = 0;
const load = async () => { loads++; await new Promise((r) => setTimeout(r, 200)); return { answer: 42 }; };
const key = "answer:" + Date.now();
const answers = await Promise.all(Array.from({ length: 20 }, () => cache.getOrLoad(key, load)));
console.log("loads", loads, "answers", JSON.stringify([...new Set(answers.map((a) => a.answer))]));
await cache.delete("user:1");
console.log("deleted", (await cache.get("user:1")) === undefined);
await nc.drain();
