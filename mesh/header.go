package mesh

import "millrace/node"

// Field and Header are the words of package node: every package that reads fields shares them.
type (
	// Field is one header field line.
	Field = node.Field
	// Header is a list of field lines.
	Header = node.Header
)
