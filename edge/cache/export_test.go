package cache

// PlainCookie is how a keyed cookie is read.
var PlainCookie = plainCookie
