package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// keyPath is the position of a value in the configuration: its path as in node.Problem, and its name for messages, such
// as routes[2].to. The zero value is the top level.
type keyPath struct {
	path   []string
	name   string
	single bool // the value is written in place of a list
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// key returns the path of a mapping's key.
func (p keyPath) key(key string) keyPath {
	name := key
	if !plainKey.MatchString(key) {
		name = strconv.Quote(displayKey(key))
	}
	if p.name != "" {
		name = p.name + "." + name
	}
	return keyPath{path: p.below(key), name: name}
}

// displayKey returns a key for a message. A key with a colon is probably a key and a value without a space between
// them, and the value may be a secret.
func displayKey(key string) string {
	if before, _, found := strings.Cut(key, ":"); found {
		return before + ":..."
	}
	return key
}

// item returns the path of a list's item.
func (p keyPath) item(i int) keyPath {
	index := strconv.Itoa(i)
	return keyPath{path: p.below(index), name: p.name + "[" + index + "]"}
}

// singleItem returns the path of an item that is written without its list.
func (p keyPath) singleItem() keyPath {
	return keyPath{path: p.below("0"), name: p.name, single: true}
}

func (p keyPath) below(step string) []string {
	return append(slices.Clip(p.path), step)
}

// in returns the name for a sentence: "in edge", or "at the top level".
func (p keyPath) in() string {
	if p.name == "" {
		return "at the top level"
	}
	return "in " + p.name
}

// prefix returns the start of a message about the value.
func (p keyPath) prefix() string {
	if p.name == "" {
		return ""
	}
	return p.name + ": "
}

// locate returns the position of a path from node.Config.Validate: that of a scalar, of the key or item with a list or
// mapping, or of the nearest parent if the file doesn't have the path.
func locate(root *value, path []string) (position, keyPath) {
	v, pos, p := root, root.pos, keyPath{}
	for _, step := range path {
		next := v.child(step)
		switch {
		case v != nil && v.kind == kindList:
			i, _ := strconv.Atoi(step)
			p = p.item(i)
		case v != nil && next == nil && step == "0":
			p = p.singleItem()
			continue
		default:
			p = p.key(step)
		}
		if v = nil; next == nil {
			continue
		}
		if v, pos = next.value, next.pos; !v.isCollection() {
			pos = v.pos
		}
	}
	return pos, p
}

// child returns the value below a key or index; nil for a scalar and for nil.
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

// entryAt finds the first use of a key. It indexes a long mapping at the first call.
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

func (v *value) isCollection() bool { return v.kind == kindList || v.kind == kindMapping }
