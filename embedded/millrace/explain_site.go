package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"millrace/edge/admin"
	"millrace/edge/site"
)

// explainSites prints what the sites of the route have at the path, up to the one that answers.
func explainSites(w io.Writer, sites []site.Explanation) {
	for i := range sites {
		e := &sites[i]
		fmt.Fprintf(w, "site %s\t%s: %s\n", e.Site, siteAnswer(e), admin.Show(e.Rule))
		if e.Deploy != "" {
			fmt.Fprintf(w, "\tdeploy %.12s\n", e.Deploy)
		}
		if e.File != "" {
			fmt.Fprintf(w, "\tfile %s, %s, %d bytes%s, from %s\n", admin.Show(e.File), e.Type, e.Size, inCoding(e),
				e.From)
			fmt.Fprintf(w, "\tETag %s, Cache-Control: %s\n", e.ETag, admin.Show(e.Keeps))
		}
		for _, near := range e.Near {
			fmt.Fprintf(w, "\tdid you mean %s?\n", admin.Show(near))
		}
	}
}

// siteAnswer says in a few words what a site answers.
func siteAnswer(e *site.Explanation) string {
	switch {
	case e.Status == 0:
		return "passes it on"
	case e.Location != "":
		return fmt.Sprintf("%d to %s", e.Status, admin.Show(e.Location))
	}
	return strconv.Itoa(e.Status)
}

// inCoding says in which coding a file is sent, and which others there are.
func inCoding(e *site.Explanation) string {
	switch {
	case e.Coding != "":
		return " in " + e.Coding
	case len(e.Codings) > 0:
		return " as it is (also kept in " + strings.Join(e.Codings, ", ") + ")"
	}
	return ""
}
