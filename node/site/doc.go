// Package site has the rules of sites as pure functions, without I/O: what a deploy consists of (Manifest), and what a
// site answers to a path (Index).
package site
