// Package mesh carries HTTP messages over NATS. A request is published on a subject, and one member of the queue group
// answers it. PROTOCOL.md beside this file describes the protocol, well enough to write a member in any language.
//
// Guarantees:
//
//   - A request runs at most once, unless its method is idempotent (Repeatable) or a member said that it didn't start
//     it.
//   - Do returns by the request's deadline, whatever members do. It returns at once when it is known that nobody will
//     answer: the last member of a service died, or the node that runs the request is lost. Config.MaxInFlight bounds
//     the requests in flight.
//   - A reply reaches the request it answers or nobody. Late, second and malformed replies are dropped, counted and
//     logged with the service's name.
//   - A Service runs at most Limit requests at once and refuses further ones immediately. It never queues.
//   - A Service that leaves its group, by Shutdown or Close, loses no request: what was sent to it is answered or
//     refused, on every node that has a list of the others (Members).
//   - A streamed body arrives whole and in order, or its reader gets an error. Unread bytes are bounded for each stream
//     and for all together. When one side of a stream ends, so does the other.
//   - Nothing of a client's request becomes a subject or a NATS header, except the fields that a plain NATS target
//     allows by name.
//
// Everything in a process shares one Conn. It has one connection for messages and one for streams, one inbox
// subscription on each, and any number of services and calls.
package mesh
