// Package natsserver runs the NATS server inside a node. It is the only importer of nats-server.
//
// Guarantees:
//
//   - The server is built from generated configuration text, with fsync before acknowledgement.
//   - Connections made through InProcessConn reach the server that runs now, also after Restart.
//   - Two kinds of client exist. The node's credential is random, made at New, never written anywhere. A member
//     presents the token and may do what DESIGN.md beside this file lists, and nothing else.
//   - When a node that leads others dies, another leads after about a second, not after nats-server's 4 to 9.
//   - What a member served whose connection ended without a farewell is told (OnGone), and a server or member that
//     vanished is noticed in seconds.
//   - It listens on loopback unless told otherwise and never exits the process, whatever happens inside.
package natsserver
