// Package config reads and writes millrace.yaml: the file on one side, node.Config on the other. Guarantees:
//
//   - One run finds every mistake it can, each with file, line, column, what was found and what is allowed; a slip
//     causes no follow-up mistakes. Only a syntax error ends the search where it is.
//   - Nothing is guessed: unknown, repeated and missing keys, wrong types and impossible values are mistakes.
//   - Variables of the environment are replaced in values after parsing, so they can't change the file's structure.
//   - Any input of up to MaxFile bytes is answered in bounded time and memory, without a panic.
//   - The schema and the writer come from the same types as the reader, and what is written reads back equal.
//
// The keys come from node's struct tags (yaml, doc, required), the defaults from node.Default and the Defaults methods,
// the values from the UnmarshalText methods: a new key needs no change here, a new text type one line in texts.go.
package config
