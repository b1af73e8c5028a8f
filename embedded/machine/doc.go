// Package machine tells what a process may have of its machine: how much of the disk under a directory, and how much
// memory.
//
// It reads what the system says at the moment of asking, remembers nothing, and changes nothing but a small file that
// it writes and removes to see whether that is possible.
package machine
