//go:build race

package bench_test

// memoryFactor is how much more memory a process uses with the race detector, at least.
const memoryFactor = 2
