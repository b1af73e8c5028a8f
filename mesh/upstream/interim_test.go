package upstream_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
)

// A target's interim responses are forwarded, except for a 100 or 101 that nobody asked for, up to a number and a size.
// The response always comes.
func TestInterimResponses(t *testing.T) {
	const final = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	head := func(status int, fields string) string {
		return fmt.Sprintf("HTTP/1.1 %d Soon\r\n%s\r\n", status, fields)
	}
	large := head(103, "Link: </"+strings.Repeat("a", 20<<10)+">\r\n")
	for name, tc := range map[string]struct{ answer, want string }{
		"eight": {strings.Repeat(head(103, ""), 8), "103 103 103 103 103 103 103 103"},
		"too many": {
			strings.Repeat(head(103, ""), 7) + strings.Repeat(head(104, ""), 50),
			"103 103 103 103 103 103 103 104",
		},
		"100s nobody asked": {strings.Repeat(head(100, ""), 30) + head(103, ""), "103"},
		"unknown ones": {
			head(102, "") + head(104, "Upload-Offset: 7\r\n") + head(110, "") + head(199, ""),
			"102 104 110 199",
		},
		"too large": {strings.Repeat(large, 5) + head(104, ""), "103 103 103 104"},
		"what frames": {head(103,
			"Content-Length: 9\r\nTransfer-Encoding: chunked\r\nConnection: X-A\r\nX-A: b\r\nX-C: d\r\n"), "103X-C"},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := rawTarget(t, tc.answer+final)
			r := start(t, config(url))
			var got []string
			resp, err := r.conn.Do(t.Context(), r.conn.Upstream("api"), &mesh.Request{
				Method: "GET", Target: "/", Host: "h", Deadline: time.Now().Add(20 * time.Second),
				Interim: func(status int, h mesh.Header) {
					names := []string{strconv.Itoa(status)}
					for _, f := range h {
						if f.Name != "Link" && f.Name != "Upload-Offset" {
							names = append(names, f.Name)
						}
					}
					got = append(got, strings.Join(names, ""))
				},
			})
			if err != nil || resp.Status != 200 || string(resp.Body) != "ok" {
				t.Errorf("the response is %+v, %v", resp, err)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %q, want %s", got, tc.want)
			}
		})
	}
}
