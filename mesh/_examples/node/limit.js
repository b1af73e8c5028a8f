// A limit of the mesh from Node.js: all processes and nodes together take no more than it allows. The configuration names it, such as
//
//   limits: {mails: 3/day}
//
//   NATS_URL=$(cat ../../../millrace-data/client.url) node limit.js
import { connect } from "@nats-io/transport-node";

const url = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
const name = "limit-example-" + process.pid; // members may only listen to inboxes under their own name
const nc = await connect({ servers: url.host, token: url.username || undefined, name, inboxPrefix: "_INBOX_" + name });

/** Takes permits of a limit for whoever key names: {ok, max, remaining, reset_ms}. With mode: queue it waits for its turn. */
export async function take(limit, key, cost = 1) {
  const reply = (await nc.request("api.limit.take", JSON.stringify({ limit, key, cost }), { timeout: 70_000 })).json();
  if (reply.error) throw Object.assign(new Error(reply.error), { code: reply.code });
  return reply;
}

const key = "ada-" + Date.now();
const first = await take("mails", key);
console.log("first", first.ok, "remaining", first.remaining, "of", first.max);
const more = await Promise.all(Array.from({ length: 20 }, () => take("mails", key)));
console.log("of 20 more", more.filter((r) => r.ok).length, "more come", more.every((r) => r.reset_ms > 0) ? "later" : "now");
await take("none-of-these", key).catch((err) => console.log("unknown", err.code));
await nc.drain();
