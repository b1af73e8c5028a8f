package machine

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// Memory is how much memory a process may use.
type Memory struct {
	Bytes int64  // 0 if it isn't known
	From  string // what sets the bound; for people
}

// What sets a bound.
const (
	FromCgroup   = "cgroup"
	FromProcess  = "limit on address space"
	FromPhysical = "physical memory"
)

// less returns the smaller of two bounds.
func (m Memory) less(bytes int64, from string) Memory {
	if bytes > 0 && (m.Bytes == 0 || bytes < m.Bytes) {
		return Memory{bytes, from}
	}
	return m
}

// ProcessMemory returns the smallest bound on this process's memory: by its cgroups, by the limit on its address space,
// and by the machine. root is the root of the file system: os.DirFS("/").
func ProcessMemory(root fs.FS) Memory {
	var m Memory
	m = m.less(physical(root), FromPhysical)
	m = m.less(addressSpace(), FromProcess)
	return m.less(CgroupMemory(root), FromCgroup)
}

// physical returns MemTotal; 0 if it isn't known.
func physical(root fs.FS) int64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			if n := number(fields[1]); n < math.MaxInt64>>10 {
				return n << 10
			}
		}
	}
	return 0
}

// CgroupMemory returns the smallest limit of this process's cgroups, version 1 or 2; 0 if there is none.
func CgroupMemory(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return 0
	}
	least := int64(0)
	for _, m := range cgroupMounts(mounts) {
		group, ok := m.group(groups)
		for ok {
			for _, file := range m.files {
				if n := limitIn(root, path.Join(m.point, group, file)); n > 0 && (least == 0 || n < least) {
					least = n
				}
			}
			ok = group != "/"
			group = path.Dir(group) // the limits of all parents hold too
		}
	}
	return least
}

// cgroupMount is the mount point of a cgroup hierarchy that can limit memory.
type cgroupMount struct {
	v2    bool
	root  string   // the part of the hierarchy that is mounted
	point string   // without its first slash, as fs.FS names files
	files []string // the files that hold a limit
}

// cgroupMounts finds the mounts in mountinfo. Its lines have the root and the mount point and, after a dash, the type
// and the options.
func cgroupMounts(mountinfo []byte) (out []cgroupMount) {
	lines := bufio.NewScanner(bytes.NewReader(mountinfo))
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if len(place) < 5 || len(kind) < 3 {
			continue
		}
		m := cgroupMount{root: unescape(place[3]), point: strings.TrimPrefix(path.Clean(unescape(place[4])), "/")}
		switch {
		case kind[0] == "cgroup2":
			m.v2, m.files = true, []string{"memory.max", "memory.high"}
		case kind[0] == "cgroup" && strings.Contains(","+kind[2]+",", ",memory,"):
			m.files = []string{"memory.limit_in_bytes"}
		default:
			continue
		}
		out = append(out, m)
	}
	return out
}

// group returns this process's group relative to the mount, / for the topmost. In /proc/self/cgroup the path follows
// the names of the controllers, of which version 2 has none.
func (m *cgroupMount) group(groups []byte) (group string, ok bool) {
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || (m.v2 != (parts[1] == "")) || (!m.v2 && !strings.Contains(","+parts[1]+",", ",memory,")) {
			continue
		}
		group = path.Clean("/" + parts[2])
		if m.root == "/" {
			return group, true
		}
		// A container sees its own group as the topmost, under a path from outside.
		below, inside := strings.CutPrefix(group, m.root)
		if !inside || !strings.HasPrefix(below, "/") {
			return "/", true
		}
		return below, true
	}
	return "", false
}

// limitIn returns a limit; 0 for "max" and for the number that means no limit in version 1.
func limitIn(root fs.FS, file string) int64 {
	b, err := fs.ReadFile(root, file)
	if err != nil {
		return 0
	}
	const none = math.MaxInt64 >> 13 // version 1 rounds the largest number down to a page
	if n := number(strings.TrimSpace(string(b))); n < none {
		return n
	}
	return 0
}

// number parses a number; 0 for anything else.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// unescape decodes \040 and the like, by which mountinfo escapes white space and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
