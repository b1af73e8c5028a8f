package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// place is where in the configuration a value belongs: the path as node.Problem writes it, and the name for messages,
// such as routes[2].to. The zero value is the top level.
type place struct {
	path []string
	name string
	only bool // a list could stand there as well
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// key returns the place of a mapping's key.
func (p place) key(key string) place {
	name := key
	if !plainKey.MatchString(key) {
		name = strconv.Quote(shown(key))
	}
	if p.name != "" {
		name = p.name + "." + name
	}
	return place{path: p.below(key), name: name}
}

// shown returns a key for a message. A key with a colon is nearly always a key and a value without a space between
// them, and the value may be a secret.
func shown(key string) string {
	if before, _, found := strings.Cut(key, ":"); found {
		return before + ":..."
	}
	return key
}

// item returns the place of a list's item.
func (p place) item(i int) place {
	index := strconv.Itoa(i)
	return place{path: p.below(index), name: p.name + "[" + index + "]"}
}

// alone returns the place of an item that stands without its list.
func (p place) alone() place {
	return place{path: p.below("0"), name: p.name, only: true}
}

func (p place) below(step string) []string {
	return append(slices.Clip(p.path), step)
}

// in names the place in a sentence: "in edge", or "at the top level".
func (p place) in() string {
	if p.name == "" {
		return "at the top level"
	}
	return "in " + p.name
}

// prefix begins a message about the place.
func (p place) prefix() string {
	if p.name == "" {
		return ""
	}
	return p.name + ": "
}

// locate finds a place that node.Config.Validate names: the position of the scalar there, of the key or item that
// begins a list or mapping, or of the nearest one above if the file leaves the place out.
func locate(root *value, path []string) (position, place) {
	v, pos, p := root, root.pos, place{}
	for _, step := range path {
		next := v.child(step)
		switch {
		case v != nil && v.kind == kindList:
			i, _ := strconv.Atoi(step)
			p = p.item(i)
		case v != nil && next == nil && step == "0":
			p = p.alone()
			continue
		default:
			p = p.key(step)
		}
		if v = nil; next == nil {
			continue
		}
		if v, pos = next.value, next.pos; !v.holdsMore() {
			pos = v.pos
		}
	}
	return pos, p
}

// child returns the value below a key or index; for a scalar and for nil there is none.
func (v *value) child(step string) *entry {
	if v == nil {
		return nil
	}
	if i, ok := v.entryAt(step); ok {
		return &v.entries[i]
	}
	if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(v.items) {
		return &entry{pos: v.items[i].pos, value: v.items[i]}
	}
	return nil
}

// entryAt finds a key's first use. A long mapping is indexed when it is asked for the first time.
func (v *value) entryAt(key string) (int, bool) {
	const short = 16
	if len(v.entries) <= short {
		i := slices.IndexFunc(v.entries, func(e entry) bool { return e.key == key })
		return i, i >= 0
	}
	if v.index == nil {
		v.index = make(map[string]int, len(v.entries))
		for i, e := range v.entries {
			if e.first == nil {
				v.index[e.key] = i
			}
		}
	}
	i, ok := v.index[key]
	return i, ok
}

func (v *value) holdsMore() bool { return v.kind == kindList || v.kind == kindMapping }
