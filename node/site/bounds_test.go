package site_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/site"
)

// repeated returns a text of some 4 MiB: unit with its number again and again, without the last comma.
func repeated(head, unit, tail string) []byte {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < 4<<20; i++ {
		b.WriteString(strings.ReplaceAll(unit, "#", strconv.Itoa(i)))
	}
	return []byte(strings.TrimSuffix(b.String(), ",") + tail)
}

// A manifest that has room for nothing but many small elements is refused before they take many times its size.
func TestDecodeTakesLittleMemory(t *testing.T) {
	d := strings.Repeat("ab", 32)
	headers, file := `{"version":1,"files":{},"headers":[`, `{"digest":"`+d+`","size":1,`
	some := func(unit string) string { return strings.TrimSuffix(strings.Repeat(unit, 10_000), ",") }
	for name, text := range map[string][]byte{
		"fields":         repeated(headers+`{"line":1,"path":"/","set":[`, `{},`, `]}]}`),
		"removed fields": repeated(headers+`{"line":1,"path":"/","unset":[`, `"",`, `]}]}`),
		"many fields":    repeated(headers, `{"line":1,"path":"/","set":[`+some(`{},`)+`]},`, `]}`),
		"chunks":         repeated(`{"version":1,"files":{"/a":`+file+`"chunks":[`, `"",`, `]}}}`),
		"null chunks":    repeated(`{"version":1,"files":{"/a":`+file+`"chunks":[`, `null,`, `]}}}`),
		"many chunks": repeated(`{"version":1,"files":{`, `"/#":{"digest":"`+d+`","size":5242880000,"chunks":[`+
			some(`"",`)+`]},`, `}}`),
		"codings":      repeated(`{"version":1,"files":{"/a":`+file+`"codings":{`, `"#":{},`, `}}}}`),
		"many codings": repeated(`{"version":1,"files":{`, `"/#":`+file+`"codings":{"a":{},"b":{},"c":{},"d":{}}},`, `}}`),
		"keys":         repeated(`{`, `"version":1,`, `}`),
		"a path":       repeated(`{"version":1,"files":{"`, `a`, `":{}}}`),
		"a key":        repeated(`{"version":1,"`, `a`, `":{}}`),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := site.Decode(text)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 12*uint64(len(text)) {
			t.Errorf("%s: %d MiB for a text of %d MiB", name, got>>20, len(text)>>20)
		}
		if err == nil || len(err.Error()) > 1000 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

// The largest file in all forms, and the largest rule, are within the bounds.
func TestLargestValues(t *testing.T) {
	form := func(n byte) node.Blob {
		b := node.Blob{Digest: node.Digest{n}, Size: site.MaxFile}
		for i := range b.Parts() {
			b.Chunks = append(b.Chunks, node.DigestOf([]byte{n, byte(i), byte(i >> 8)}))
		}
		return b
	}
	m := manifest("/index.html")
	m.Files["/"+strings.Repeat("%C3%BC", 340)] = site.File{
		Blob: form(1), Codings: map[site.Coding]node.Blob{site.Brotli: form(2), site.Zstd: form(3), site.Gzip: form(4)},
	}
	rule := site.HeaderRule{Line: 1, Path: "/*"}
	for i := range 3 {
		rule.Set = append(rule.Set, site.HeaderField{Name: "X-" + strconv.Itoa(i), Value: strings.Repeat(`"`, 8<<10)})
	}
	m.Headers = []site.HeaderRule{rule}
	text, err := site.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.Decode(text); err != nil {
		t.Error(err)
	}
}
