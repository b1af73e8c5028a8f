package machine_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"millrace/embedded/machine"
)

// system is a root file system with the files that CgroupMemory and the like read.
func system(files map[string]string) fs.FS {
	out := fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal:       16000000 kB\nMemFree:  1 kB\n")}}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

const (
	mountsV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountsV1 = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n35 31 0:32 / /sys/fs/cgroup/memory " +
		"rw,relatime - cgroup cgroup rw,memory\n"
	mountsHybrid = mountsV1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)

// The result is the smallest bound of the process's cgroups, their parents and the machine, in both versions and as
// containers see them.
func TestProcessMemory(t *testing.T) {
	const physical = 16_000_000 << 10
	for name, c := range map[string]struct {
		files map[string]string
		want  machine.Memory
	}{
		"no cgroups": {nil, machine.Memory{Bytes: physical, From: machine.FromPhysical}},
		"version 2": {
			map[string]string{
				"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": mountsV2,
				"sys/fs/cgroup/a/b/memory.max": "419430400\n",
			},
			machine.Memory{Bytes: 419430400, From: machine.FromCgroup},
		},
		"version 2, no limit": {
			map[string]string{
				"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": mountsV2,
				"sys/fs/cgroup/a/b/memory.max": "max\n",
			},
			machine.Memory{Bytes: physical, From: machine.FromPhysical},
		},
		"version 2, a group above has less": {
			map[string]string{
				"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": mountsV2,
				"sys/fs/cgroup/a/b/memory.max": "419430400\n",
				"sys/fs/cgroup/a/memory.max":   "104857600\n",
			},
			machine.Memory{Bytes: 104857600, From: machine.FromCgroup},
		},
		"version 2, memory.high": {
			map[string]string{
				"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": mountsV2,
				"sys/fs/cgroup/a/memory.max": "419430400\n", "sys/fs/cgroup/a/memory.high": "314572800\n",
			},
			machine.Memory{Bytes: 314572800, From: machine.FromCgroup},
		},
		"version 2, in a container": {
			map[string]string{
				"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mountsV2,
				"sys/fs/cgroup/memory.max": "419430400\n",
			},
			machine.Memory{Bytes: 419430400, From: machine.FromCgroup},
		},
		"version 1": {
			map[string]string{
				"proc/self/cgroup": "5:cpu:/x\n4:memory:/a\n0::/\n", "proc/self/mountinfo": mountsHybrid,
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "419430400\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
			},
			machine.Memory{Bytes: 419430400, From: machine.FromCgroup},
		},
		"version 1, no limit": {
			map[string]string{
				"proc/self/cgroup": "4:memory:/a\n", "proc/self/mountinfo": mountsV1,
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
			},
			machine.Memory{Bytes: physical, From: machine.FromPhysical},
		},
		"version 1, in a container with the host's paths": {
			map[string]string{
				"proc/self/cgroup": "4:memory:/docker/abc\n",
				"proc/self/mountinfo": "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup " +
					"rw,memory\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes": "419430400\n",
			},
			machine.Memory{Bytes: 419430400, From: machine.FromCgroup},
		},
		"a mount point with a space": {
			map[string]string{
				"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": strings.Replace(mountsV2, "/sys/fs/cgroup",
					`/sys/my\040groups`, 1),
				"sys/my groups/a/memory.max": "419430400\n",
			},
			machine.Memory{Bytes: 419430400, From: machine.FromCgroup},
		},
		"a limit beyond the machine": {
			map[string]string{
				"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": mountsV2,
				"sys/fs/cgroup/a/memory.max": "99999999999999\n",
			},
			machine.Memory{Bytes: physical, From: machine.FromPhysical},
		},
	} {
		if got := machine.ProcessMemory(system(c.files)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if got := machine.ProcessMemory(os.DirFS("/")); got.Bytes < 64<<20 {
		t.Errorf("this machine: %+v", got)
	}
	if got := machine.ProcessMemory(fstest.MapFS{}); got != (machine.Memory{}) {
		t.Errorf("a system that tells nothing: %+v", got)
	}
}

// Whatever the files contain, parsing ends, and no limit is negative.
func FuzzCgroup(f *testing.F) {
	f.Add("0::/a/b\n", mountsV2, "419430400\n")
	f.Add("4:memory:/a\n", mountsHybrid, "max")
	f.Add("0::/../..", "1 2 3 / / rw - cgroup2 cgroup2 rw\n", "1")
	f.Fuzz(func(t *testing.T, groups, mounts, limit string) {
		root := system(map[string]string{
			"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, "sys/fs/cgroup/a/memory.max": limit,
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": limit,
		})
		if n := machine.CgroupMemory(root); n < 0 {
			t.Errorf("the limit is %d", n)
		}
	})
}
