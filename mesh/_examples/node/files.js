// A member of the service files that streams: NATS_URL=$(cat millrace-data/client.url) node files.js
//   GET /files/N      N bytes, as fast as the client takes them
//   PUT /files        takes a body of any size and answers its length and SHA-256
//   a WebSocket       gets its messages back
import {createHash} from 'node:crypto'
import {connect} from '@nats-io/transport-node'
import {Exchange, reply} from './stream.js'

const name = 'files'
const prefix = `_INBOX_${name}` // a member may listen below _INBOX_ and its own name
const node = new URL(process.argv[2] ?? process.env.NATS_URL)
const nc = await connect({servers: node.host, token: decodeURIComponent(node.username), name, maxReconnectAttempts: -1})

async function* bytes(n) {
  const block = Buffer.alloc(64 * 1024, 'millrace')
  for (; n > 0; n -= block.length) yield block.subarray(0, Math.min(n, block.length))
}

async function digest(body) {
  const hash = createHash('sha256')
  let length = 0
  for await (const piece of body) {
    hash.update(piece)
    length += piece.length
  }
  return JSON.stringify({length, sha256: hash.digest('hex')})
}

// parse gives what of a request is needed here.
function parse(payload) {
  const message = Buffer.from(payload)
  const end = message.indexOf('\r\n\r\n')
  const [line, ...rest] = message.toString('latin1', 0, end).split('\r\n')
  const [method, target] = line.split(' ')
  return {method, target, body: message.subarray(end + 4), upgrade: rest.some(field => /^millrace-upgrade: messages$/i.test(field))}
}

const json = body => `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n${body}`

// Requests that are one message: their answer may be a stream all the same.
nc.subscribe('http.files', {queue: 'q', callback: async (err, msg) => {
  if (err) return console.error(err)
  const request = parse(msg.data)
  if (request.method === 'PUT') return msg.respond(json(await digest([request.body])))
  const length = Number(request.target.split('/').pop())
  if (!(length >= 0)) return msg.respond('HTTP/1.1 404 Not Found\r\n\r\n')
  const exchange = new Exchange(nc, prefix)
  reply(msg, exchange, `HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ${length}\r\n\r\n`)
  await exchange.send(bytes(length)).catch(err => exchange.abort(err)).finally(() => exchange.close())
}})

// Requests whose body streams, and sockets.
nc.subscribe('http.files.stream', {queue: 'q', callback: async (err, msg) => {
  if (err) return console.error(err)
  const exchange = new Exchange(nc, prefix, msg.reply)
  try {
    if (parse(msg.data).upgrade) {
      reply(msg, exchange, 'HTTP/1.1 101 Switching Protocols\r\n\r\n')
      await exchange.send(exchange.take())
    } else {
      msg.respond(json(await digest(exchange.take())))
    }
  } catch (err) {
    exchange.abort()
  } finally {
    exchange.close()
  }
}})

for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => nc.drain())
