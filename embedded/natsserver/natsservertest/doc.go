// Package natsservertest starts embedded NATS servers for tests, and has what tests with several goroutines need.
package natsservertest
