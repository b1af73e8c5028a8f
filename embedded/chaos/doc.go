// Package chaos has no code of its own: its tests, built with the tag system, do to real processes what bad days do to
// machines. They fill disks, cut networks, stop clocks and kill nodes, and look whether what was promised held and
// whether status, readyz and logs told the truth. They need root.
//
// task chaos runs every trial in its long form and prints one table; task system runs the short forms.
package chaos
