// One member calls another service, through a node. The configuration lists whom members may call:
//
//   mesh: {member_calls: [prices]}
//
//   NATS_URL=$(cat ../../../millrace-data/client.url) node call.js
import { connect } from "@nats-io/transport-node";

const url = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
const name = "call-example-" + process.pid; // members may only listen to inboxes under their own name
const nc = await connect({ servers: url.host, token: url.username || undefined, name, inboxPrefix: "_INBOX_" + name });

/** Calls a service, as fetch does: a standard Response, or an error with a code such as no_member or forbidden. */
export async function call(service, path, { method = "GET", headers = {}, body = "", timeout = 10_000 } = {}) {
  const fields = Object.entries({ host: service, "millrace-deadline": timeout, ...headers }).map(([k, v]) => `${k}: ${v}\r\n`).join("");
  const head = Buffer.from(`${method} ${path} HTTP/1.1\r\n${fields}\r\n`, "latin1");
  const reply = await nc.request("api.call." + service, Buffer.concat([head, Buffer.from(body)]), { timeout: timeout + 1000 });
  const code = reply.headers?.get("Millrace-Error");
  if (code) throw Object.assign(new Error(reply.headers.get("Millrace-Error-Text")), { code });
  const message = Buffer.from(reply.data);
  const end = message.indexOf("\r\n\r\n");
  const [line, ...lines] = message.toString("latin1", 0, end).split("\r\n");
  const status = Number(line.split(" ")[1]);
  const empty = [204, 304].includes(status) || method === "HEAD";
  return new Response(empty ? null : message.subarray(end + 4), { status, headers: lines.map((l) => [l.slice(0, l.indexOf(":")), l.slice(l.indexOf(":") + 1).trim()]) });
}

// A service to call.
nc.subscribe("http.prices", {
  queue: "q",
  callback: (err, msg) => {
    if (err) throw err;
    const [method, path] = msg.string().split(" ");
    const body = msg.string().split("\r\n\r\n")[1];
    msg.respond(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n${JSON.stringify({ method, path, body })}`);
  },
});
await nc.flush();

const response = await call("prices", "/7?currency=EUR", { method: "POST", body: "two of them" });
console.log(response.status, await response.json());
await call("nobody", "/").catch((err) => console.log(err.code));
await nc.drain();
