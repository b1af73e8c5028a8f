// Package embedded is a whole Millrace node in one process: state, NATS server, mesh, upstreams, edge and admin API,
// as a list of parts that are wired on one page, parts.go. The millrace command is a thin shell around it; Go programs
// and tests use it directly.
//
// Guarantees:
//
//   - New starts nothing. Open starts everything or nothing: what was opened before a failure is closed again.
//   - Shutdown drops no request: see its comment for the order.
//   - Close and Shutdown leave no goroutine and no temporary file, and may be called again.
//   - Two nodes run in one process when their listeners and data directories differ.
package embedded
