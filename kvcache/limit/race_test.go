//go:build race

package limit_test

// ciSeeds is how many seeds the model runs by default. Under the race detector they take ten times as long, and few
// suffice to show a race.
const ciSeeds = 40
