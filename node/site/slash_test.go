package site_test

import (
	"slices"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/site"
)

// The table of Cloudflare Workers' documentation of html_handling (file.html and folder/index.html), and what its
// documents leave to tests: the root, and twins. Columns are auto, always, never and keep. In keep, a folder's index
// also answers the folder's URL, where theirs says that it depends.
const slashTable = `
/file.html /folder/index.html
  /file               200 /file.html          307 to /file/           200 /file.html          -
  /file.html          307 to /file            307 to /file/           307 to /file            200 /file.html
  /file/              307 to /file            200 /file.html          307 to /file            -
  /file/index         307 to /file            307 to /file/           307 to /file            -
  /file/index.html    307 to /file            307 to /file/           307 to /file            -
  /folder             307 to /folder/         307 to /folder/         200 /folder/index.html  -
  /folder.html        307 to /folder/         307 to /folder/         307 to /folder          -
  /folder/            200 /folder/index.html  200 /folder/index.html  307 to /folder          200 /folder/index.html
  /folder/index       307 to /folder/         307 to /folder/         307 to /folder          -
  /folder/index.html  307 to /folder/         307 to /folder/         307 to /folder          200 /folder/index.html
  /other              -                       -                       -                       -
  /                   -                       -                       -                       -
/index.html
  /                   200 /index.html         200 /index.html         200 /index.html         200 /index.html
  /index              307 to /                307 to /                307 to /                -
  /index.html         307 to /                307 to /                307 to /                200 /index.html
  /index/             -                       -                       -                       -
  /.html              -                       -                       -                       -
/both.html /both/index.html
  /both               200 /both.html          307 to /both/           200 /both.html          -
  /both.html          307 to /both            200 /both.html          307 to /both            200 /both.html
  /both/              200 /both/index.html    200 /both/index.html    307 to /both            200 /both/index.html
  /both/index         307 to /both/           307 to /both/           307 to /both            -
  /both/index.html    307 to /both/           307 to /both/           200 /both/index.html    200 /both/index.html
/bin /bin.html
  /bin                200 /bin                200 /bin                200 /bin                200 /bin
  /bin.html           200 /bin.html           307 to /bin/            200 /bin.html           200 /bin.html
  /bin/               -                       200 /bin.html           -                       -
  /bin/index          -                       307 to /bin/            -                       -
  /bin/index.html     -                       307 to /bin/            -                       -
/index/index.html
  /index              307 to /index/          307 to /index/          -                       -
  /index/             200 /index/index.html   200 /index/index.html   -                       200 /index/index.html
  /index/index.html   307 to /index/          307 to /index/          200 /index/index.html   200 /index/index.html
/a.html.html /a.html/index.html
  /a.html             307 to /a.html/         307 to /a.html/         -                       -
  /a.html/            200 /a.html/index.html  200 /a.html/index.html  -                       200 /a.html/index.html
  /a.html.html        200 /a.html.html        200 /a.html.html        200 /a.html.html        200 /a.html.html
/a%20b.html /%40/x.js
  /a%20b              200 /a%20b.html         307 to /a%20b/          200 /a%20b.html         -
`

var slashModes = []node.Slash{node.SlashAuto, node.SlashAlways, node.SlashNever, node.SlashKeep}

func TestSlashTable(t *testing.T) {
	var files []string
	cases := 0
	for line := range strings.SplitSeq(strings.TrimSpace(slashTable), "\n") {
		if line[0] == '/' {
			files = strings.Fields(strings.ReplaceAll(line, "/%40/", "/@/"))
			continue
		}
		columns := slices.DeleteFunc(strings.Split(line, "  "), func(s string) bool {
			return strings.TrimSpace(s) == ""
		})
		if len(columns) != 1+len(slashModes) {
			t.Fatalf("%q has %d columns", line, len(columns))
		}
		path := strings.TrimSpace(columns[0])
		for i, mode := range slashModes {
			cases++
			x := index(t, site.Options{Slash: mode}, files...)
			if got, want := show(x.Find(path)), strings.TrimSpace(columns[1+i]); got != want {
				t.Errorf("%v, %s: %s is %s, want %s", files, mode, path, got, want)
			}
		}
	}
	if cases < 100 {
		t.Errorf("%d cases, want all of the table", cases)
	}
}
