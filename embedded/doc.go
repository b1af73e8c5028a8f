// Package embedded runs a whole Millrace node in one process: state, NATS server, mesh, upstreams, edge and admin API.
// The parts and their wiring are in parts.go. The millrace command adds a command line; Go programs and tests use this
// package directly.
//
// Guarantees:
//
//   - New starts nothing. Open starts everything or nothing: if a part fails, those opened before are closed again.
//   - Shutdown drops no request: see its comment for the order.
//   - Close and Shutdown leave no goroutine and no temporary file, and may be called again.
//   - Two nodes run in one process if their listeners and data directories differ.
package embedded
