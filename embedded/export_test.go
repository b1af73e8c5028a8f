package embedded

import "time"

// SetReloadTime sets how long a reload waits for the requests of an upstream that leaves.
func (n *Node) SetReloadTime(d time.Duration) { n.parts.upstreams.leaveTime = d }
