// Bodies of any size, for members of a Millrace mesh: one side of an exchange, as mesh/PROTOCOL.md writes it down in
// sections 6 and 7. A body is an async iterable of Uint8Arrays; of a socket, of {text} or {data} objects.
import {once, EventEmitter} from 'node:events'
import {createInbox, headers} from '@nats-io/transport-node'

const window = 256 * 1024 // bytes that may be on their way to us
const largest = 128 * 1024 // bytes in one message to the node
const cost = (data, kind) => data.length + (kind ? 64 : 0) // a message of a socket counts for 64 bytes more

const fields = values => {
  const h = headers()
  for (const [name, value] of Object.entries(values)) h.set(name, String(value))
  return h
}

export class Exchange extends EventEmitter {
  sent = 0 // bytes
  allowed = 0 // bytes that the node lets us send
  got = 0
  granted = 0
  queue = []
  ended = false
  error = null

  // to is where the node listens, if it is known; prefix is that of the inboxes which this member may have.
  constructor(nc, prefix, to) {
    super()
    this.setMaxListeners(0)
    Object.assign(this, {nc, to, inbox: createInbox(prefix)})
    this.subscription = nc.subscribe(this.inbox, {callback: (err, msg) => err ? this.fail(err) : this.receive(msg)})
  }

  receive(msg) {
    const h = msg.headers
    if (msg.data.length === 0 && h?.code === 503) return this.fail(new Error('the node is gone'))
    if (h?.has('Millrace-Credit')) {
      this.to ??= msg.reply
      this.allowed = Math.max(this.allowed, Number(h.get('Millrace-Credit')))
    } else if (h?.has('Millrace-Chunk')) {
      if (Number(h.get('Millrace-Chunk')) !== this.got) return this.fail(new Error('a chunk was lost or repeated'))
      const kind = h.get('Millrace-Kind')
      this.got += cost(msg.data, kind)
      this.queue.push({size: cost(msg.data, kind), piece: kind === 'text' ? {text: msg.string()} : kind === 'binary' ? {data: msg.data} : msg.data})
    } else if (h?.has('Millrace-End')) {
      if (Number(h.get('Millrace-End')) !== this.got) return this.fail(new Error('bytes were lost'))
      this.ended = true
    } else if (h?.has('Millrace-Abort')) {
      return this.fail(new Error(h.get('Millrace-Abort')))
    }
    this.emit('news')
  }

  fail(error) {
    this.error ??= error
    this.emit('news')
  }

  publish(values, data = '') {
    this.nc.publish(this.to, data, {headers: fields(values), reply: this.inbox})
  }

  // take lets the node send the request's body and gives it piece by piece.
  async *take() {
    for (let taken = 0; ;) {
      if (taken + window - this.granted >= window / 2) {
        this.granted = taken + window
        this.publish({'Millrace-Credit': this.granted})
      }
      const next = this.queue.shift()
      if (next) {
        yield next.piece
        taken += next.size
      } else if (this.ended) {
        return
      } else if (this.error) {
        throw this.error
      } else {
        await once(this, 'news')
      }
    }
  }

  // credit waits until so many bytes may be sent, or until some may.
  async credit(whole = 1) {
    while (this.allowed - this.sent < whole) {
      if (this.error) throw this.error
      await once(this, 'news')
    }
    if (this.error) throw this.error
    return this.allowed - this.sent
  }

  chunk(data, kind) {
    this.publish({'Millrace-Chunk': this.sent, ...kind && {'Millrace-Kind': kind}}, data)
    this.sent += cost(data, kind)
  }

  // send sends a body to its end, as fast as the client takes it.
  async send(body) {
    await this.credit()
    for await (const piece of body) {
      if (piece.text !== undefined || piece.data !== undefined) { // a message of a socket travels whole
        const data = piece.text === undefined ? piece.data : Buffer.from(piece.text)
        const kind = piece.text === undefined ? 'binary' : 'text'
        await this.credit(cost(data, kind))
        this.chunk(data, kind)
        continue
      }
      for (let rest = piece; rest.length > 0;) {
        const part = rest.subarray(0, Math.min(await this.credit(), largest))
        this.chunk(part)
        rest = rest.subarray(part.length)
      }
    }
    this.publish({'Millrace-End': this.sent})
  }

  abort(code = 'upstream_failed') {
    if (this.to) this.publish({'Millrace-Abort': code})
  }

  close() { this.subscription.unsubscribe() }
}

// reply begins a response whose body streams. head is its status line and fields.
export function reply(msg, exchange, head) {
  msg.respond(head, {headers: fields({'Millrace-Stream': 1}), reply: exchange.inbox})
}
