//go:build !race

package limit_test

// ciSeeds is how many seeds of the model are run unless somebody says otherwise.
const ciSeeds = 200
