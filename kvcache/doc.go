// Package kvcache will hold the two-tier store over a JetStream KV bucket. Nothing of it is built yet.
package kvcache
