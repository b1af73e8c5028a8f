// Package machine measures what a process may use of its machine: the disk below a directory, and memory.
//
// It reads what the system reports at that moment and remembers nothing. It changes nothing, except that TryWrite
// writes a small file and removes it.
package machine
