// Millrace puts an application's HTTP traffic on a NATS mesh. This is its command line: main.go dispatches, each
// subcommand has a file of its own, and everything else is the work of package embedded. See README.md, or run millrace
// --help.
package main
