//go:build !race

package limit_test

// ciSeeds is how many seeds the model runs by default.
const ciSeeds = 200
