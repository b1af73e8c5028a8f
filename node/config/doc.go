// Package config reads and writes millrace.yaml, from and to node.Config. Guarantees:
//
//   - One run finds every mistake it can, each with file, line, column, what was found and what is allowed. A typo
//     causes no follow-up mistakes. Only a syntax error stops the search where it is.
//   - Nothing is guessed: unknown, repeated and missing keys, wrong types and impossible values are mistakes.
//   - Environment variables are replaced in values after parsing, so they can't change the file's structure.
//   - Any input of up to MaxFile bytes is handled in bounded time and memory, without a panic.
//   - Schema and writer use the same types as the reader, and what is written is read back as an equal configuration.
//
// The keys come from node's struct tags (yaml, doc, required), the defaults from node.Default and the Defaults methods,
// the values from the UnmarshalText methods. A new key needs no change here, a new text type one line in texts.go.
package config
