// Several calls at the price of the slowest, from Node.js: a node makes them, each of them as a request of a route would be.
//
//   NATS_URL=$(cat ../../../millrace-data/client.url) node gather.js
import { connect } from "@nats-io/transport-node";

const url = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
const name = "gather-example-" + process.pid; // members may only listen to inboxes under their own name
const nc = await connect({ servers: url.host, token: url.username || undefined, name, inboxPrefix: "_INBOX_" + name });

/** Makes the calls: {status, body, partial, timing}. The options are those of a route's gather, and timeout, host and headers. */
export async function gather(calls, options = {}) {
  const reply = (await nc.request("api.gather", JSON.stringify({ ...options, calls }), { timeout: 70_000 })).json();
  if (reply.error) throw Object.assign(new Error(reply.error), { code: reply.code });
  return reply;
}

// A service to call: each request takes 100 ms.
nc.subscribe("http.prices", {
  queue: "q",
  callback: (err, msg) => {
    if (err) throw err;
    const path = msg.string().split(" ")[1];
    setTimeout(() => msg.respond(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"id":"${path.slice(1)}"}`), 100);
  },
});
await nc.flush();

const calls = {};
for (let i = 0; i < 10; i++) calls["p" + i] = { to: "service:prices", path: "/" + i };
calls.next = { to: "service:prices", path: "/after-{p3.id}", after: ["p3"] };
const began = Date.now();
const { status, body } = await gather(calls, { mode: "all", timeout: "5s" });
console.log(status, Object.keys(body).length, "results,", body.next.id, Date.now() - began < 900 ? "at once" : "one by one");
await gather({ a: { to: "service:prices" } }).catch((err) => console.log(err.code));
await nc.drain();
