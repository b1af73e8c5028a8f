// An Express application with what makes bodies long or endless: an upload form, downloads, events and a WebSocket. Prints its port.
import {createHash} from 'node:crypto'
import {createServer} from 'node:http'
import {Readable} from 'node:stream'
import express from 'express'
import multer from 'multer'
import {WebSocketServer} from 'ws'

const app = express()
const sha256 = data => createHash('sha256').update(data).digest('hex')
const upload = multer({storage: multer.memoryStorage()})

app.post('/form', upload.single('file'), (req, res) => {
  res.json({name: req.file.originalname, size: req.file.size, sha256: sha256(req.file.buffer), note: req.body.note})
})
app.put('/raw', async (req, res) => {
  const hash = createHash('sha256')
  let size = 0
  for await (const piece of req) { hash.update(piece); size += piece.length }
  res.json({size, sha256: hash.digest('hex')})
})
const file = size => Readable.from((function* () { for (let left = size; left > 0; left -= 65536) yield Buffer.alloc(Math.min(left, 65536), String(left)) })())
app.get('/download/:size', (req, res) => { // without a length
  res.attachment('large.bin')
  file(Number(req.params.size)).pipe(res)
})
app.get('/file/:size', (req, res) => {
  res.set('Content-Length', req.params.size)
  file(Number(req.params.size)).pipe(res)
})
app.get('/events', (req, res) => {
  res.set({'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache'})
  res.flushHeaders()
  let n = 0
  const timer = setInterval(() => res.write(`id: ${++n}\ndata: event ${n}\n\n`), 20)
  res.on('close', () => { clearInterval(timer); closed.events++ })
})

// What a browser does with it, and what became of that.
const closed = {events: 0, sockets: 0}
const results = []
app.get('/', (req, res) => res.type('html').send(`<!doctype html><script>
const report = {}
const socket = new WebSocket('ws://' + location.host + '/socket', ['echo'])
socket.onopen = () => socket.send('hello from a browser')
socket.onmessage = ({data}) => { report.socket = data; report.protocol = socket.protocol; socket.close(4002, 'done') }
socket.onclose = ({code, wasClean}) => { report.code = code; report.clean = wasClean; tell() }
const events = new EventSource('/events')
events.onmessage = ({data}) => { report.event = data; if (data === 'event 5') { events.close(); tell() } }
const tell = () => report.code && report.event === 'event 5' && fetch('/result', {method: 'POST', body: JSON.stringify(report)})
</script>`))
app.post('/result', express.text({type: '*/*'}), (req, res) => { results.push(JSON.parse(req.body)); res.end() })
app.get('/result', (req, res) => res.json({results, closed}))

const server = createServer(app)
new WebSocketServer({server, path: '/socket', handleProtocols: () => 'echo'}).on('connection', socket => {
  socket.on('message', (data, binary) => socket.send(data, {binary}))
  socket.on('close', () => closed.sockets++)
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
