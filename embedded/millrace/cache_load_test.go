package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/edge/admin"
)

// clientLoad is clients and purgers of a cluster, with the history that they record.
type clientLoad struct {
	*history

	origin  *versions
	nodes   [3]*cacheNode
	running sync.WaitGroup
	stop    chan struct{} // closed by end
}

// Sizes of the load, small enough for two cores.
const (
	readersOfNode = 4
	purgers       = 6
	readEvery     = 5 * time.Millisecond
	purgeEvery    = 50 * time.Millisecond
)

func startClientLoad(c *cacheCluster, origin *versions) *clientLoad {
	traffic := &clientLoad{history: newHistory(), origin: origin, nodes: c.nodes, stop: make(chan struct{})}
	for node := range c.nodes {
		for range readersOfNode {
			traffic.every(readEvery, func(client *http.Client) {
				// Some give up while a node is stopped, and retry.
				client.Timeout = 300*time.Millisecond + rand.N(5*time.Second)
				traffic.ask(client, node, pickKey())
			})
		}
	}
	for i := range purgers { // they begin at different nodes
		traffic.every(purgeEvery, func(client *http.Client) {
			client.Timeout = 3*time.Second + rand.N(9*time.Second)
			traffic.purge(client, i%len(c.nodes), pickPurge())
		})
	}
	return traffic
}

// every starts a worker with connections of its own that calls do at a steady pace.
func (c *clientLoad) every(pace time.Duration, do func(*http.Client)) {
	c.running.Go(func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-tick.C:
				do(client)
			}
		}
	})
}

// end stops the load and waits for running requests.
func (c *clientLoad) end() {
	close(c.stop)
	c.running.Wait()
}

// burst requests every key from a node at once, so that requests wait there while it is stopped.
func (c *clientLoad) burst(node int) {
	for key := range versionKeys {
		c.running.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 8 * time.Second}
			c.ask(client, node, key)
		})
	}
}

// pickKey prefers the first keys, and seldom returns the long one.
func pickKey() int {
	key := min(rand.IntN(versionKeys), rand.IntN(versionKeys))
	if key == longKey || rand.IntN(200) == 0 {
		return longKey
	}
	return key
}

func pickPurge() admin.Purge {
	key := rand.IntN(versionKeys)
	p := admin.Purge{Wait: admin.WaitAll}
	switch n := rand.IntN(20); {
	case n < 10:
		p.URL = keyURL(key)
	case n < 15:
		p.Tag = keyTag(key)
	case n < 18:
		p.Prefix = "http://" + keyHost(key) + keyPrefix(key)
	default:
		p.Host = keyHost(key)
	}
	return p
}

// ask requests a key from a node and records the response.
func (c *clientLoad) ask(client *http.Client, node, key int) {
	e := readEvent{node: node, key: key, start: c.now()}
	req, err := http.NewRequest(http.MethodGet, c.nodes[node].edge+keyPath(key), nil)
	if err != nil {
		c.failed(err.Error())
		return
	}
	req.Host = keyHost(key)
	resp, err := client.Do(req)
	if err != nil {
		c.failed("read: " + brief(err))
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	e.end, e.status = c.now(), resp.Header.Get("Cache-Status")
	if err == nil && resp.StatusCode != http.StatusOK {
		c.failed("read: " + strconv.Itoa(resp.StatusCode))
		return
	}
	if err != nil {
		c.failed("read: " + brief(err))
		return
	}
	if e.version, err = readVersion(key, body); err != nil {
		c.failed("malformed: " + err.Error())
		return
	}
	c.read(e)
}

// purge raises the versions of what a purge reaches, and then purges it through a node. A purge that isn't acknowledged
// guarantees nothing.
func (c *clientLoad) purge(client *http.Client, node int, what admin.Purge) {
	var events []purgeEvent
	for _, key := range reached(what) {
		events = append(events, purgeEvent{node: node, key: key, version: c.origin.current[key].Add(1), what: what})
	}
	start := c.now()
	done, err := postPurge(client, c.nodes[node].admin, what)
	acknowledged := c.now()
	if err != nil {
		c.failed("purge: " + brief(err))
		return
	}
	var states strings.Builder
	for _, n := range done.Nodes {
		fmt.Fprintf(&states, "%s %s after %.1f ms, ", n.Node, n.State, n.AfterMS)
	}
	fmt.Fprintf(&states, "sequence %d", done.Sequence)
	for i := range events {
		events[i].start, events[i].acknowledged, events[i].states = start, acknowledged, states.String()
	}
	c.purged(events...)
}

// postPurge purges through a node's admin API. An error means that the purge wasn't acknowledged.
func postPurge(client *http.Client, url string, what admin.Purge) (done admin.Purged, err error) {
	b, err := json.Marshal(what)
	if err != nil {
		return done, err
	}
	resp, err := client.Post(url+"/v1/purge", "application/json", bytes.NewReader(b))
	if err != nil {
		return done, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, resp.Body)
		return done, errors.New(strconv.Itoa(resp.StatusCode))
	}
	return done, json.NewDecoder(resp.Body).Decode(&done)
}

// brief shortens an error, so that equal ones can be counted.
func brief(err error) string {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout"
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err.Error()
}

// seconds is how long a test runs: short, or what the variable says.
func seconds(t *testing.T, variable string, short int) time.Duration {
	t.Helper()
	n := short
	if text := os.Getenv(variable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s=%s: %v", variable, text, err)
		}
	}
	return time.Duration(n) * time.Second
}

// pass waits for d and calls do at each interval meanwhile.
func pass(d, every time.Duration, do func()) {
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-over.C:
			return
		case <-tick.C:
			do()
		}
	}
}
