//go:build unix

package publish_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"millrace/embedded/publish"
)

func hostileNames() []hostile {
	return []hostile{
		{
			class: "control character", want: "control character", severity: publish.Bad,
			make: func(w *tree) string {
				name := "a" + []string{"\n", "\r", "\t", "\x1b", "\x01", "\x7f", "\u0085", "\u009b"}[w.n] + "b.txt"
				w.put(name, "x")
				return name
			},
		},
		{
			class: "backslash", want: "backslash", severity: publish.Bad,
			make: func(w *tree) string {
				name := deepen(w.n, `x\..\..\x.txt`)
				w.put(name, "x")
				return name
			},
		},
		{
			class: "no UTF-8", want: "isn't UTF-8", severity: publish.Bad,
			make: func(w *tree) string {
				name := "a" + string([]byte{0x80 + byte(w.n)}) + ".txt"
				w.put(name, "x")
				return name
			},
		},
		{
			class: "name of a device", want: "is a device on Windows", severity: publish.Bad,
			make: func(w *tree) string {
				name := []string{"con", "aux.js", "NUL.txt", "prn", "com1.html", "LPT9", "Con.tar.gz", "nul"}[w.n]
				w.put(name, "x")
				return name
			},
		},
		{
			class: "path that is too long", want: "more than 1024", severity: publish.Bad,
			make: func(w *tree) string {
				name := strings.Repeat(strings.Repeat("n", 200)+"/", 5) + strings.Repeat("x", 30+w.n)
				w.put(name, "x")
				return name
			},
		},
		{
			class: "too deep", want: "too deep", severity: publish.Bad,
			make: func(w *tree) string {
				w.put(deepen(32+w.n, "x.txt"), secretText)
				return strings.TrimSuffix(deepen(32, ""), "/")
			},
		},
		{
			class: "names that differ by case", want: "upper and lower case", severity: publish.Warning, served: 2,
			make: func(w *tree) string {
				w.put(deepen(w.n, "A.txt"), "1")
				w.put(deepen(w.n, "a.txt"), "2")
				return deepen(w.n, "a.txt")
			},
		},
		{
			class: "names that differ by Unicode form", want: "other Unicode characters", severity: publish.Bad,
			make: func(w *tree) string {
				w.put(deepen(w.n, "caf\u00e9.txt"), "1")
				w.put(deepen(w.n, "cafe\u0301.txt"), "2")
				return deepen(w.n, "caf\u00e9.txt")
			},
		},
	}
}

func hostileSecrets() []hostile {
	return []hostile{
		{
			class: "dotfile", want: "is left out", severity: publish.Skipped,
			make: func(w *tree) string {
				name := []string{
					".env", ".git", ".htpasswd", ".DS_Store", ".npmrc", ".aws", ".vscode", ".Well-Known",
				}[w.n]
				if w.n == 1 || w.n >= 5 {
					w.put(name+"/config", secretText)
				} else {
					w.put(name, secretText)
				}
				return name
			},
		},
		{
			class: "secret that is included", want: "looks like a secret", severity: publish.Bad,
			opts: publish.ScanOptions{Include: []string{".*", ".*/*"}},
			make: func(w *tree) string {
				name := []string{
					".env", ".env.local", ".npmrc", ".netrc", ".htpasswd", ".git-credentials", ".pgpass", ".Env",
				}[w.n]
				w.put(name, secretText)
				return name
			},
		},
		{
			class: "folder of secrets that is included", want: "looks like a secret", severity: publish.Bad,
			opts: publish.ScanOptions{Include: []string{".*/*"}},
			make: func(w *tree) string {
				name := []string{".git", ".svn", ".hg", ".aws", ".ssh", ".gnupg", ".kube", ".GIT"}[w.n]
				w.put(name+"/config", secretText)
				return name
			},
		},
		{
			class: "key", want: "looks like a secret", severity: publish.Bad,
			make: func(w *tree) string {
				name := []string{
					"server.pem", "a/tls.key", "id_rsa", "id_ed25519", "x.p12", "x.PFX", "a/b/id_ecdsa.bak",
					"terraform.tfstate",
				}[w.n]
				w.put(name, secretText)
				return name
			},
		},
		{
			class: "key by another name", want: "is a private key", severity: publish.Bad,
			make: func(w *tree) string {
				name := fmt.Sprintf("notes%d.txt", w.n)
				kind := []string{"", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "DSA ", "RSA ", "EC "}[w.n]
				w.put(name, strings.Repeat("\n", w.n)+"-----BEGIN "+kind+"PRIVATE KEY-----\nabc\n")
				return name
			},
		},
		{
			class: "source map", want: "source map", severity: publish.Warning, served: 1,
			make: func(w *tree) string {
				name := deepen(w.n, "app.js.map")
				w.put(name, "{}")
				return name
			},
		},
	}
}

func hostileBombs() []hostile {
	return []hostile{
		{
			class: "sparse file", want: "a file of a site may have", severity: publish.Bad,
			make: func(w *tree) string {
				name := fmt.Sprintf("f%d.bin", w.n)
				w.put(name, "x")
				w.must(os.Truncate(filepath.Join(w.dir, name), 6<<30+int64(w.n)<<40))
				return name
			},
		},
		{
			class: "many files", want: "more than 100 files", severity: publish.Bad,
			opts: publish.ScanOptions{Limits: publish.Limits{Files: 100}},
			make: func(w *tree) string {
				for i := range 101 {
					w.put(fmt.Sprintf("d%d/f%d", i%(w.n+1), i), "x")
				}
				return ""
			},
		},
		{
			class: "many bytes", want: "more than 1 MiB together", severity: publish.Bad,
			opts: publish.ScanOptions{Limits: publish.Limits{Total: 1 << 20}},
			make: func(w *tree) string {
				for i := range 3 + w.n {
					w.put(fmt.Sprintf("f%d", i), strings.Repeat("x", 400_000))
				}
				return ""
			},
		},
		{
			class: "file that changes while it is read", want: "changes while it is read", severity: publish.Bad,
			changes: func(w *tree, name string, attempt int) { w.put(name, secretText[:attempt+3]) },
			make: func(w *tree) string {
				name := fmt.Sprintf("f%d.txt", w.n)
				w.put(name, "x")
				return name
			},
		},
	}
}
