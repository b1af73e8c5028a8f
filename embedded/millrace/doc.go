// Millrace puts an application's HTTP traffic on a NATS mesh. This package is its command line: main.go parses it, each
// subcommand has a file of its own, and package embedded does the work. See README.md, or run millrace --help.
package main
