//go:build !race

package bench_test

// memoryFactor is 1: without the race detector, measured memory is that of the node.
const memoryFactor = 1
