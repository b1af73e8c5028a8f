// Package chaos has no code of its own. Its tests, built with the tag system, simulate failures of machines with real
// processes: they fill disks, cut networks, limit memory and kill nodes. They check that the guarantees held, and that
// status, readyz and logs reported the failure. They need root.
//
// task chaos runs every trial in its long form and prints one table; task system runs the short forms.
package chaos
