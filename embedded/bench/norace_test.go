//go:build !race

package bench_test

// memoryFactor is 1: without the race detector memory is what the node holds.
const memoryFactor = 1
