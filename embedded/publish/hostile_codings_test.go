//go:build unix

package publish_test

import (
	"strings"

	"millrace/embedded/publish"
)

func hostileCodings() []hostile {
	ending := func(w *tree) string { return []string{".br", ".zst", ".gz"}[w.n%3] }
	text := prose(1, 5_000)
	wrong := func(class string, change func(w *tree) string) hostile {
		return hostile{
			class: class, want: "isn't the", severity: publish.Bad,
			make: func(w *tree) string {
				w.put("app.js", text)
				name := "app.js" + ending(w)
				w.put(name, change(w))
				return name
			},
		}
	}
	return []hostile{
		wrong("coding of another content", func(w *tree) string { return encoded(w.T, ending(w), prose(2, 5_000)) }),
		wrong("coding of less", func(w *tree) string { return encoded(w.T, ending(w), text[:4_999]) }),
		wrong("coding of more", func(w *tree) string { return encoded(w.T, ending(w), text+"x") }),
		wrong("coding that is a bomb", func(w *tree) string {
			return encoded(w.T, ending(w), strings.Repeat("\x00", 50<<20))
		}),
		wrong("coding that is none", func(*tree) string { return text }),
		wrong("coding that is cut", func(w *tree) string {
			whole := encoded(w.T, ending(w), text)
			return whole[:len(whole)/2]
		}),
		wrong("coding with something behind", func(w *tree) string {
			return encoded(w.T, ending(w), text) + "something behind it"
		}),
	}
}
