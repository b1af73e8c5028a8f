//go:build system

package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// siteKills kills a node at some moment of a publish, again and again. Every node that lives must serve the old or the
// new deploy whole, and all nodes the same one once the killed node is back.
func siteKills(t *testing.T, long bool) (seen string) {
	t.Helper()
	rounds := 4
	if long {
		rounds = 200
	}
	c := startThree(t, siteRoutes)
	dir := filepath.Join(t.TempDir(), "deploy")
	live := 0
	files := killFiles(live)
	writeFiles(t, dir, files)
	begun := time.Now()
	if _, err := publishTo(t.Context(), c.nodes[0], dir); err != nil {
		t.Fatal(err)
	}
	usual := time.Since(begun)
	var done, failed int
	var back []time.Duration
	for round := range rounds {
		next := round + 1
		writeFiles(t, dir, killFiles(next))
		at, victim := rand.IntN(3), rand.IntN(3)
		published := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		go func() {
			_, err := publishTo(ctx, c.nodes[at], dir)
			published <- err
		}()
		<-time.After(time.Duration(rand.Int64N(int64(usual) * 3 / 2)))
		c.nodes[victim].kill()
		err := <-published
		cancel()
		if err == nil {
			done++
		} else {
			failed++
		}
		for i, n := range c.nodes {
			if i == victim {
				continue
			}
			if got := wholeDeploy(t, n); got != live && got != next {
				t.Errorf("round %d: n%d serves %d, neither %d nor %d", round, i+1, got, live, next)
			}
		}
		restarted := time.Now()
		c.start(t, victim)
		var now int
		within(t, wait, fmt.Sprintf("round %d: all nodes serve the same deploy", round), func() bool {
			now = pageNumber(c.nodes[0])
			return (now == live || now == next) && pageNumber(c.nodes[1]) == now && pageNumber(c.nodes[2]) == now
		})
		back = append(back, time.Since(restarted))
		for i, n := range c.nodes {
			if got := wholeDeploy(t, n); got != now {
				t.Errorf("round %d: n%d serves %d, not %d", round, i+1, got, now)
			}
		}
		if err == nil && now != next {
			t.Errorf("round %d: %d was published without an error, and %d is live", round, next, now)
		}
		live = now
		if t.Failed() {
			break
		}
	}
	return fmt.Sprintf("%d kills: %d publishes were done, %d failed, each deploy was whole; all nodes agreed p50 %s, "+
		"max %s after the killed one was started", rounds, done, failed, percentile(back, 50).Round(time.Millisecond),
		percentile(back, 100).Round(time.Millisecond))
}

// killFiles are the files of deploy n: some small ones of its own, some that all deploys share, and one of three chunks.
func killFiles(n int) map[string]string {
	files := map[string]string{
		"/index.html": fmt.Sprintf("deploy %d", n),
		"/large.bin":  strings.Repeat(fmt.Sprintf("%07d\n", n), 3<<16-1),
	}
	for i := range 50 {
		files[fmt.Sprintf("/own/%d.txt", i)] = fmt.Sprintf("%d of %d\n%s", i, n, strings.Repeat("z", 1000*i))
		files[fmt.Sprintf("/shared/%d.txt", i)] = strings.Repeat(fmt.Sprint(i), 1000)
	}
	return files
}

// pageNumber returns the number of the deploy whose page a node serves; -1 if it serves none.
func pageNumber(n *nodeProcess) int {
	status, body := get(n.edge + "/")
	number := -1
	if _, err := fmt.Sscanf(body, "deploy %d", &number); err != nil || status != http.StatusOK {
		return -1
	}
	return number
}

// wholeDeploy returns the number of the deploy that a node serves, and checks each of its files. While the deploy changes
// meanwhile it looks again.
func wholeDeploy(t *testing.T, n *nodeProcess) int {
	t.Helper()
	for range 10 {
		number := pageNumber(n)
		wrong := ""
		for path, want := range killFiles(number) {
			url := n.edge + strings.TrimSuffix(path, "index.html")
			if status, body := get(url); status != http.StatusOK || body != want {
				wrong = fmt.Sprintf("%s of deploy %d: %d %.60q", path, number, status, body)
			}
		}
		if pageNumber(n) != number {
			continue
		}
		if wrong != "" {
			t.Error(wrong)
		}
		return number
	}
	t.Error("the deploy changes again and again")
	return -1
}
