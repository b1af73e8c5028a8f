// Package natsservertest starts embedded NATS servers for tests, and connects to them.
package natsservertest
