package edge

// Seen is what a node remembers of the names of services.
type Seen struct{ names seenNames }

// MaxSeen is how many names that are at most.
const MaxSeen = maxSeen

// Add, Has and Count are for tests that look at it alone.
func (s *Seen) Add(name string)      { s.names.add(name) }
func (s *Seen) Has(name string) bool { return s.names.has(name) }

func (s *Seen) Count() int { return len(*s.names.names.Load()) }
