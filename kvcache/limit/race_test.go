//go:build race

package limit_test

// ciSeeds is how many seeds of the model are run unless somebody says otherwise. Under the race detector they take ten
// times as long, and what it looks for shows in few.
const ciSeeds = 40
