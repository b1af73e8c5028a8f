// Package site has the rules of sites as pure functions, without I/O: what a deploy consists of (Manifest), what the
// files _headers and _redirects say, and what a site answers to a path (Index). Guarantees:
//
//   - One folder has one encoding, and so one id (Encode). Decode accepts nothing that publishing a folder can't give:
//     no path that leads out of it, no field that frames a message, no target that isn't written out.
//   - A request chooses neither the host of a redirect nor a second line of a head, whatever its path is.
//   - Slash rules redirect once at most, and never in a circle. Every file has a URL at which it is served.
//   - Every wrong line of _headers and _redirects is reported with line and column. There is no limit below 10,000
//     rules.
//   - Find allocates nothing for a file or a page at its URL. Its time doesn't grow with the number of files; with that
//     of rules it grows only for paths in the folders that their patterns begin with.
//   - Types, tags and all else come from this package alone, so every node answers alike.
//
// An Index never changes, and is safe for concurrent use.
package site
