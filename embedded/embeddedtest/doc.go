// Package embeddedtest has helpers for the tests of nodes and of programs that run nodes.
package embeddedtest
