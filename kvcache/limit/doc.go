// Package limit decides how many requests a client may make, exactly for a whole cluster and nearly always without
// asking anybody.
//
// What is still free of a limit stands in a record for each key (a client of a limit) in a JetStream stream. Nodes
// lease permits from it by compare-and-set and spend them in memory. A permit exists once: in the record, or on one
// node, or it is spent or lost. So the sum of what all nodes admit never exceeds the limit, whatever fails; permits
// that a node has when it dies are lost until their window ends. Windows go by a time that the nodes agree on, as long
// as most of their clocks are right. DESIGN.md has the algorithms and why they hold.
package limit
