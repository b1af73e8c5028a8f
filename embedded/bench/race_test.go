//go:build race

package bench_test

// memoryFactor is what the race detector makes of a process's memory, at least.
const memoryFactor = 2
