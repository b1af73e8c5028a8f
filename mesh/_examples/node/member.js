// A member of the service hello: NATS_URL=$(cat millrace-data/client.url) node member.js
import {setTimeout as wait} from 'node:timers/promises'
import {connect, headers} from '@nats-io/transport-node'

const service = 'hello'
const limit = Number(process.env.LIMIT ?? 100) // requests that run at once

// Your part: a standard Request in, a standard Response out. request.signal tells when nobody waits any more.
async function handle(request) {
  const {pathname, searchParams} = new URL(request.url)
  await wait(Number(searchParams.get('wait') ?? 0), null, {signal: request.signal})
  return Response.json({service, member: process.pid, method: request.method, path: pathname, body: await request.text()})
}

const node = new URL(process.argv[2] ?? process.env.NATS_URL) // nats://TOKEN@host:port; nats.js wants the token apart
const nc = await connect({servers: node.host, token: decodeURIComponent(node.username), maxReconnectAttempts: -1})
const running = new Map() // nonce -> AbortController

// parse reads an HTTP/1.1 request message: request line, header fields, empty line, body.
function parse(payload, signal) {
  const message = Buffer.from(payload)
  const end = message.indexOf('\r\n\r\n')
  const [line, ...fields] = message.toString('latin1', 0, end).split('\r\n')
  const [method, target] = line.split(' ')
  const fieldOf = text => [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1).trim()]
  const head = new Headers(fields.map(fieldOf))
  const body = method === 'GET' || method === 'HEAD' ? undefined : message.subarray(end + 4) // Request has none there
  return new Request(`http://${head.get('host')}${target}`, {method, headers: head, body, signal})
}

// format writes an HTTP/1.1 response message. Its length is that of the payload.
async function format(response) {
  const fields = [...response.headers].map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const head = `HTTP/1.1 ${response.status} ${response.statusText}\r\n${fields}\r\n`
  return Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(await response.arrayBuffer())])
}

async function answer(msg) {
  const abort = new AbortController()
  let nonce, timer
  try {
    const request = parse(msg.data, abort.signal)
    nonce = request.headers.get('millrace-nonce')
    running.set(nonce, abort)
    timer = setTimeout(() => abort.abort(), Number(request.headers.get('millrace-deadline'))) // milliseconds left
    msg.respond(await format(await handle(request)))
  } catch (err) {
    if (abort.signal.aborted) return // nobody waits for an answer
    console.error(err)
    msg.respond('HTTP/1.1 500 Internal Server Error\r\n\r\n')
  } finally {
    clearTimeout(timer)
    running.delete(nonce)
  }
}

const busy = headers()
busy.set('Millrace-Busy', '1')
const work = new Set()
const requests = nc.subscribe(`http.${service}`, {queue: 'q', callback: (err, msg) => {
  if (err) return console.error(err)
  if (work.size >= limit) return msg.respond('', {headers: busy}) // another member gets it
  const job = answer(msg).finally(() => work.delete(job))
  work.add(job)
}})
nc.subscribe(`cancel.http.${service}`, {callback: (err, msg) => running.get(msg?.string())?.abort()})

// Leave the group, finish what runs, go.
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, async () => {
    await requests.drain()
    await Promise.all(work)
    await nc.drain()
  })
}
