// Package embeddedtest has what the tests of nodes share.
package embeddedtest
