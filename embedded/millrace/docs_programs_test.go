package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// docCommand is a line of shell: NAME=VALUE PROGRAM ARGS > FILE &.
type docCommand struct {
	env, args []string
	into      string // the file for its output
}

var docCat = regexp.MustCompile(`\$\(cat ([^)]+)\)`)

// parse parses a line. $(cat FILE) is replaced by the content of the file. A pipe may only count output.
func (s *docShell) parse(line string) (docCommand, error) {
	var c docCommand
	line = s.own(line)
	for _, m := range docCat.FindAllStringSubmatch(line, -1) {
		text, err := os.ReadFile(filepath.Join(s.dir, m[1]))
		if err != nil {
			return c, fmt.Errorf("read what the line names: %w", err)
		}
		line = strings.ReplaceAll(line, m[0], strings.TrimSpace(string(text)))
	}
	words, err := docWords(line)
	if err != nil {
		return c, err
	}
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case word == "&" && i == len(words)-1:
		case word == "|" && slices.Equal(words[i+1:], []string{"wc", "-c"}):
			return c, nil
		case word == ">" && i == len(words)-2:
			i++
			c.into = words[i]
		case word == "&" || word == "|" || word == ">":
			return c, fmt.Errorf("the test doesn't know what %s means here", word)
		case len(c.args) == 0 && docAssignment.MatchString(word):
			c.env = append(c.env, word)
		default:
			c.args = append(c.args, word)
		}
	}
	return c, nil
}

var (
	docAssignment = regexp.MustCompile(`^\w+=`)
	docWord       = regexp.MustCompile(`^(?:\$'((?:[^'\\]|\\.)*)'|'([^']*)'|"([^"$\\]*)"|([^\s'"$&|>\\]+))`)
)

// docWords splits a line into words like a shell, as far as the documents need it.
func docWords(line string) ([]string, error) {
	var words []string
	joined := false // the next part belongs to the last word
	for line != "" {
		switch line[0] {
		case ' ':
			line, joined = line[1:], false
			continue
		case '&', '|', '>':
			words, line, joined = append(words, line[:1]), line[1:], false
			continue
		case '#':
			if !joined {
				return words, nil
			}
		}
		m := docWord.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("the test can't read %s", line)
		}
		escaped, err := strconv.Unquote(`"` + strings.ReplaceAll(m[1], `"`, `\"`) + `"`)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", m[0], err)
		}
		if word := escaped + m[2] + m[3] + m[4]; joined {
			words[len(words)-1] += word
		} else {
			words = append(words, word)
		}
		line, joined = line[len(m[0]):], true
	}
	return words, nil
}

// golang is the go command, in the module's root.
func (s *docShell) golang(args []string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "go", args...)
	cmd.Dir = docsRoot
	switch args[0] {
	case "run":
		s.start(cmd, args[len(args)-1])
		return
	case "build":
		if len(args) != 4 || args[1] != "-o" {
			s.t.Fatalf("%s: the test builds with go build -o FILE PACKAGE", s.line)
		}
		cmd.Args[3] = filepath.Join(s.dir, args[2])
	case "test":
		cmd.Args = append([]string{"go", "list"}, args[1:]...)
	default:
		s.t.Fatalf("%s: the test doesn't know go %s", s.line, args[0])
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", s.line, err, out)
	}
	if args[0] == "test" && !slices.Contains(strings.Fields(string(out)), "millrace/embedded/millrace") {
		s.t.Errorf("%s: this package isn't tested", s.line)
	}
}

// curl sends the request of a command line.
func (s *docShell) curl(args []string) {
	s.t.Helper()
	method, url, body, header := "", "", "", http.Header{}
	for i := 0; i < len(args); i++ {
		option := args[i]
		if option == "-i" {
			continue // output options don't matter
		}
		if option[0] != '-' {
			url = option
			continue
		}
		if i++; i == len(args) {
			s.t.Fatalf("%s: the test doesn't know %s", s.line, option)
		}
		switch option {
		case "-X":
			method = args[i]
		case "-H":
			name, value, _ := strings.Cut(args[i], ": ")
			header.Add(name, value)
		case "-d":
			method, body = cmp.Or(method, http.MethodPost), args[i]
			header.Set("Content-Type", "application/x-www-form-urlencoded")
		case "-T":
			method, body = http.MethodPut, strings.Repeat("x", 1<<20)
		default:
			s.t.Fatalf("%s: the test doesn't know %s", s.line, option)
		}
	}
	s.answers(cmp.Or(method, http.MethodGet), url, header, body)
}

// connect returns a client of the node's NATS, with an inbox that members may use.
func (s *docShell) connect(url string) *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(url, nats.Name("docs"), nats.CustomInboxPrefix("_INBOX_docs"))
	if err != nil {
		s.t.Fatalf("%s: %v", s.line, err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// serve is a member that answers a subject until the test ends.
func (s *docShell) serve(nc *nats.Conn, subject, group, answer string) {
	s.t.Helper()
	_, err := nc.QueueSubscribe(subject, group, func(m *nats.Msg) { _ = m.Respond([]byte(answer)) }) // or the node ends
	if err = errors.Join(err, nc.Flush(), nc.LastError()); err != nil {
		s.t.Fatalf("%s: %v", s.line, err)
	}
}

// nats is nats -s URL reply SUBJECT -q GROUP ANSWER.
func (s *docShell) nats(args []string) {
	s.t.Helper()
	if len(args) != 7 || args[0] != "-s" || args[2] != "reply" || args[4] != "-q" {
		s.t.Fatalf("%s: the test knows nats -s URL reply SUBJECT -q GROUP ANSWER", s.line)
	}
	s.serve(s.connect(args[1]), args[3], args[5], args[6])
}

const docReply = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"id\": \"7\"}"

// nodejs stands in for the examples in Node.js, which tests with the tag system run. npm ci must find its lock file.
// For a program that serves, the service is served; for one that calls, the call is made.
func (s *docShell) nodejs(env, args []string) {
	s.t.Helper()
	files := args[1:]
	if slices.Equal(args, []string{"npm", "ci"}) {
		files = []string{"package.json", "package-lock.json"}
	}
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(s.from, file)); err != nil {
			s.t.Errorf("%s: %v", s.line, err)
		}
	}
	if args[0] == "npm" {
		return
	}
	if len(env) != 1 || !strings.HasPrefix(env[0], "NATS_URL=") {
		s.t.Fatalf("%s: the program needs NATS_URL", s.line)
	}
	nc := s.connect(strings.TrimPrefix(env[0], "NATS_URL="))
	switch args[1] {
	case "member.js":
		s.serve(nc, "http.hello", "q", docReply)
	case "files.js":
		s.serve(nc, "http.files", "q", docReply)
		s.serve(nc, "http.files.stream", "q", docReply)
	case "cache.js":
		s.asks(nc, "api.cache.get", `{"key": "user:1"}`)
	case "limit.js":
		s.asks(nc, "api.limit.take", `{"limit": "mails", "key": "ada"}`)
	case "gather.js":
		s.serve(nc, "http.prices", "q", docReply)
		s.asks(nc, "api.gather", `{"mode": "all", "calls": {"a": {"to": "service:prices", "path": "/7"}}}`)
	case "call.js":
		s.serve(nc, "http.prices", "q", docReply)
		s.asks(nc, "api.call.prices", "GET /7 HTTP/1.1\r\nHost: prices\r\n\r\n")
	default:
		s.t.Fatalf("%s: the test doesn't know the program", s.line)
	}
}

// asks sends a request to the node, which must not answer with an error.
func (s *docShell) asks(nc *nats.Conn, subject, payload string) {
	s.t.Helper()
	m, err := nc.Request(subject, []byte(payload), 20*time.Second)
	if err != nil {
		s.t.Fatalf("%s: %s: %v", s.line, subject, err)
	}
	var answer struct{ Error string }
	_ = json.Unmarshal(m.Data, &answer) // fails for HTTP
	if answer.Error != "" || m.Header.Get("Millrace-Error") != "" {
		s.t.Errorf("%s: %s is answered %s %v", s.line, subject, m.Data, m.Header)
	}
}
