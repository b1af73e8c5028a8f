package mesh

import "millrace/node"

// Field and Header are aliases of the types of package node, which every package that reads fields shares.
type (
	// Field is one header field line.
	Field = node.Field
	// Header is a list of field lines.
	Header = node.Header
)
