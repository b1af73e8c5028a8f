// Package httpcache has the rules of RFC 9111 for a shared cache, as pure functions over the metadata of requests and
// responses: may a response be stored, how long is it fresh, may it be reused for a request, what does a 304 change,
// which bytes does a range name. It stores nothing and has no clock: times are arguments.
//
// It also implements RFC 5861 (stale-while-revalidate, stale-if-error), RFC 8246 (immutable), RFC 9110 (conditional
// requests and ranges), RFC 9211 (Cache-Status), RFC 9213 (targeted fields), RFC 9875 (cache groups) and
// No-Vary-Search.
//
// Guarantees:
//
//   - What is unclear restricts the cache: a directive that can't be parsed never makes a response fresher or more
//     shared.
//   - Nothing panics, whatever a field contains.
//   - No function keeps or changes its arguments, except those that say so.
package httpcache
