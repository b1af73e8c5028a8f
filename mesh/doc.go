// Package mesh carries HTTP messages over NATS: a request is published on a subject, one member of the queue group
// answers it. The protocol is described in PROTOCOL.md beside this file, well enough to write a member in any language.
//
// Guarantees:
//
//   - A request is run at most once, unless its method is idempotent (Repeatable) or a member said that it didn't
//     start it.
//   - Do returns by the request's deadline, whatever members do, and at once when it is known that nobody will answer:
//     the last member of a service died, or the node that runs the request is lost. Requests in flight are bounded by
//     Config.MaxInFlight.
//   - A reply reaches the request it answers or nobody: late, second and malformed replies are dropped, counted and
//     logged with the service's name.
//   - A Service runs at most Limit requests at once and refuses more at once; it never queues.
//   - A Service that leaves its group, by Shutdown or Close, loses no request: what was sent to it is answered or
//     refused, on every node that has a list of the others (Members).
//   - A body that streams arrives whole and in order, or its reader gets an error. What is unread is bounded for each
//     stream and for all together. Whatever ends one side of an exchange ends the other.
//   - Nothing of a client's request becomes a subject or a NATS header, but for what plain NATS targets allow by name.
//
// A Conn is shared by everything in a process: one connection, one inbox subscription, any number of services and
// calls.
package mesh
