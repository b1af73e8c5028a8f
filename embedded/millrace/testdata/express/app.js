// An Express application that uses HTTP the way applications do. The system test asks it twice, directly and through
// Millrace, and compares the answers. Nothing here may depend on time, process or port.
import {createHash} from 'node:crypto'
import {fileURLToPath} from 'node:url'
import {brotliCompressSync, gzipSync} from 'node:zlib'
import express from 'express'

const app = express()
const here = fileURLToPath(new URL('.', import.meta.url))
const long = 'The quick brown fox jumps over the lazy dog. '.repeat(6700).slice(0, 300_000)
const longAgo = 'Wed, 01 Jan 2020 00:00:00 GMT'
const sha256 = body => createHash('sha256').update(body).digest('hex')
const raw = express.raw({type: () => true, limit: '1mb', inflate: false})

// What the application saw of the request. No ETag: the body differs with the fields that a proxy adds.
const echo = (req, res) => {
  const body = Buffer.isBuffer(req.body) ? req.body : Buffer.alloc(0)
  res.type('json').end(JSON.stringify({
    method: req.method, originalUrl: req.originalUrl, protocol: req.protocol, hostname: req.hostname, query: req.query,
    rawHeaders: req.rawHeaders, length: body.length, sha256: sha256(body),
  }))
}
app.all('/echo{/*rest}', raw, echo)
app.all('/', raw, echo)

// Bodies in.
app.post('/json', express.json(), (req, res) => res.json({got: req.body}))
app.post('/form', express.urlencoded({extended: true}), (req, res) => res.json({got: req.body}))
app.post('/text', express.text({type: 'text/*'}), (req, res) => res.type('text/plain').send(req.body))
app.all('/raw', raw, (req, res) => res.type(req.get('Content-Type') ?? 'bin').send(req.body ?? ''))
app.put('/digest', raw, (req, res) => res.json({length: req.body.length, sha256: sha256(req.body)}))

// Cookies.
app.get('/cookies', (req, res) => {
  res.cookie('session', 'a b/c=d;e', {httpOnly: true, sameSite: 'lax'})
  res.cookie('theme', 'dark', {path: '/'})
  res.cookie('theme', 'light', {path: '/admin'})
  res.append('Set-Cookie', 'raw="quoted, with comma"; Expires=Wed, 01 Jan 2031 00:00:00 GMT; Secure; Partitioned')
  res.clearCookie('gone')
  res.json({saw: req.headers.cookie ?? null})
})

// Redirects and statuses.
app.all('/redirect/relative/:code', (req, res) => res.redirect(Number(req.params.code), '../target?a=1&b=%20#part'))
app.all('/redirect/path/:code', (req, res) => res.redirect(Number(req.params.code), '/tärget/é'))
app.all('/redirect/absolute/:code', (req, res) => res.redirect(Number(req.params.code), `${req.protocol}://${req.get('host')}/target`))
app.all('/redirect/hostname/:code', (req, res) => res.redirect(Number(req.params.code), `${req.protocol}://${req.hostname}/target`))
app.all('/redirect/other', (req, res) => res.redirect('https://other.example/a%2Fb?q=%C3%A9'))
app.get('/created', (req, res) => res.status(201).location('/things/7').json({id: 7}))
app.all('/status/:code', (req, res) => res.status(Number(req.params.code)).send(`status ${req.params.code}\n`))
app.all('/sendstatus/:code', (req, res) => res.sendStatus(Number(req.params.code)))
app.all('/bare/:code', (req, res) => res.status(Number(req.params.code)).end())
app.get('/message', (req, res) => { res.statusMessage = 'Quite Fine'; res.send('ok') })

// Fields out.
app.get('/repeat', (req, res) => {
  res.setHeader('Link', ['</a>; rel=preload', '</b>; rel=next'])
  res.setHeader('Vary', ['Accept', 'Origin'])
  res.setHeader('X-Twice', ['1', '2', '1'])
  res.send('repeated')
})
app.get('/401', (req, res) => {
  res.setHeader('WWW-Authenticate', ['Basic realm="a, b"', 'Bearer realm="c", error="invalid_token"'])
  res.status(401).send('who are you?')
})
app.get('/links', (req, res) => { res.links({next: 'http://shop.example/?page=2', last: '/?page=5'}); res.json([]) })
app.get('/fields', (req, res) => {
  res.set({
    'Cache-Control': 'private, no-store, max-age=0', Expires: '0', Pragma: 'no-cache', Age: '12', Server: 'express-of-mine',
    'Content-Security-Policy': "default-src 'self'; img-src *", 'Strict-Transport-Security': 'max-age=31536000',
    'Content-Language': 'de, en', Allow: 'GET, HEAD', 'Retry-After': '120', 'X-Frame-Options': 'DENY', Warning: '199 - "x"',
    'Access-Control-Allow-Origin': '*', 'Alt-Svc': 'clear', Via: '1.1 inner', Forwarded: 'for=x', 'x-lower': 'l', 'X-UPPER': 'U',
    'Server-Timing': 'db;dur=53', 'Timing-Allow-Origin': '*', 'X-Powered-By': 'me', 'Accept-Ranges': 'none',
  })
  res.send('fields')
})
app.get('/odd-fields', (req, res) => {
  res.setHeader('X-Empty', '')
  res.setHeader('X-Latin', 'caf\xe9')
  res.setHeader('X_Under.Score~', 'a  b\tc')
  res.setHeader('X-Quotes', '"a\\"b", \'c\'; d={e}')
  res.send('odd')
})
app.get('/large-field', (req, res) => res.set('X-Large', 'v'.repeat(6000)).send('large'))
app.get('/many-fields', (req, res) => { for (let i = 0; i < 60; i++) res.set(`X-Field-${i}`, `${i}`); res.send('many') })
app.get('/date', (req, res) => res.set({Date: longAgo, ETag: '"mine"'}).send('dated'))
app.get('/nodate', (req, res) => { res.sendDate = false; res.send('no date') })
app.get('/untyped', (req, res) => res.end('no content type'))
app.get('/early', (req, res) => res.writeEarlyHints({link: '</style.css>; rel=preload'}, () => res.send('late')))
app.get('/attachment', (req, res) => res.attachment('Prüfung "1".txt').send('attached'))
app.get('/close', (req, res) => res.set('Connection', 'close').send('the last one'))

// Conditional requests, ranges, negotiation.
app.get('/etag', (req, res) => res.send('has an etag'))
app.get('/strong', (req, res) => res.set('ETag', '"v1"').send('strong'))
app.get('/modified', (req, res) => res.set({'Last-Modified': longAgo, 'Cache-Control': 'max-age=60', Vary: 'Accept'}).send('old'))
app.get('/file', (req, res) => res.sendFile('app.js', {root: here, maxAge: '1h'}))
app.get('/missing-file', (req, res) => res.sendFile('none.txt', {root: here}))
app.get('/download', (req, res) => res.download(`${here}package.json`, 'p.json'))
app.get('/negotiate', (req, res) => res.format({
  text: () => res.send('hey'), html: () => res.send('<p>hey</p>'), json: () => res.json({message: 'hey'}),
  default: () => res.status(406).send('Not Acceptable'),
}))
app.get('/jsonp', (req, res) => res.jsonp({a: 1}))

// Bodies out.
app.get('/json', (req, res) => res.json({text: 'Grüße, 世界 🌍', n: 1.5, none: null, list: [1, [2]]}))
app.get('/html', (req, res) => res.send('<!doctype html><title>x</title>'))
app.get('/binary', (req, res) => res.send(Buffer.from(Array.from({length: 256}, (_, i) => i))))
app.get('/gzip', (req, res) => res.set({'Content-Encoding': 'gzip', Vary: 'Accept-Encoding'}).type('text').send(gzipSync(long)))
app.get('/brotli', (req, res) => res.set('Content-Encoding', 'br').type('text').send(brotliCompressSync(long)))
app.get('/chunked', async (req, res) => {
  res.type('text')
  for (const part of ['one ', 'two ', 'three']) {
    res.write(part)
    await new Promise(setImmediate)
  }
  res.end()
})
app.get('/chunked-big', (req, res) => { for (let i = 0; i < 300; i++) res.write(long.slice(i * 1000, i * 1000 + 1000)); res.end() })
app.get('/chunked-empty', (req, res) => { res.flushHeaders(); res.end() })
app.get('/events', (req, res) => { res.type('text/event-stream'); res.write('id: 1\ndata: a\n\n'); res.end('data: b\n\n') })
app.get('/empty', (req, res) => res.end())
app.get('/empty-send', (req, res) => res.send(''))
app.get('/empty-json', (req, res) => res.type('json').end())
app.get('/big', (req, res) => res.send(long))
app.head('/head-only', (req, res) => res.set({'Content-Length': '12345', 'X-Head': 'yes'}).end())
app.head('/head-unsized', (req, res) => res.set('X-Head', 'yes').end())

// Routing and errors.
app.get('/users/:name', (req, res) => res.json({name: req.params.name, url: req.url, path: req.path}))
const strict = express.Router({strict: true, caseSensitive: true})
strict.get('/a', (req, res) => res.send('without slash'))
strict.get('/a/', (req, res) => res.send('with slash'))
app.use('/strict', strict)
app.use('/static', express.static(here, {index: false}))
app.route('/resource').get((req, res) => res.json({})).put((req, res) => res.status(204).end()).delete((req, res) => res.sendStatus(204))
app.get('/throws', () => { throw new Error('thrown') })
app.get('/rejects', async () => { throw Object.assign(new Error('teapot'), {status: 418, headers: {'X-Error': 'yes'}}) })
app.get('/handled', (req, res, next) => next({problem: 'handled'}))
app.use((err, req, res, next) => err.problem ? res.status(422).type('application/problem+json').send(JSON.stringify(err)) : next(err))

const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.once('SIGTERM', () => { server.close(); server.closeAllConnections() })
