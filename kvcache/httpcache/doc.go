// Package httpcache is what RFC 9111 says about a shared cache, as pure functions over the metadata of requests and
// responses: may a response be stored, how long is it fresh, may it be reused for this request, what does a 304 change,
// which bytes does a range name. It keeps nothing and knows no clock: times are arguments.
//
// Besides RFC 9111 it knows RFC 5861 (stale-while-revalidate, stale-if-error), RFC 8246 (immutable), RFC 9110
// (conditional requests and ranges), RFC 9211 (Cache-Status), RFC 9213 (targeted fields), RFC 9875 (cache groups) and
// No-Vary-Search.
//
// Guarantees:
//
//   - What is unclear counts against the cache: a directive that can't be read never makes a response fresher or more
//     shared.
//   - Nothing panics, whatever a field holds.
//   - No function keeps or changes its arguments, but for those that say so.
package httpcache
