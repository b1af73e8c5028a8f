// Package natsserver runs the NATS server inside a node. No other package imports nats-server.
//
// Guarantees:
//
//   - The server runs from generated configuration text, and syncs to disk before it acknowledges.
//   - Connections made through InProcessConn reach the server that runs now, also after Restart.
//   - There are two kinds of clients. The node's credential is random, made by New, and never written anywhere. A
//     member presents the token and may do what DESIGN.md in this directory lists, and nothing else.
//   - When a node that leads others dies, another leads after about a second, instead of nats-server's 4 to 9.
//   - When a member's connection ends before it unsubscribed, OnGone reports what the member served. A server or member
//     that vanished is noticed within seconds.
//   - It listens on loopback unless configured otherwise, and never exits the process, whatever happens inside.
package natsserver
