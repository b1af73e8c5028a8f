package cache

// PlainCookie is how a keyed cookie is read.
var PlainCookie = plainCookie

// HomeCall is what a key's home must know beside the client's request.
type HomeCall = homeCall

// HomeCallVersion is its version.
const HomeCallVersion = homeCallVersion

// ReadHomeCall reads one.
var ReadHomeCall = readHomeCall
