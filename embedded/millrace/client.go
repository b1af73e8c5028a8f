package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"millrace/node/config"
)

// adminFlags say which node to talk to.
type adminFlags struct {
	configFlag
	Admin string `placeholder:"URL" env:"MILLRACE_ADMIN" help:"Admin API of the node (default: admin.listen of the configuration file, or http://127.0.0.1:8081)."`
	Token string `env:"MILLRACE_ADMIN_TOKEN" help:"Token of the admin API (default: admin.token of the configuration file)."`
}

// target gives URL and token, from the flags or else from the configuration file.
func (f adminFlags) target() (url, token string, err error) {
	if url, token = f.Admin, f.Token; url != "" && !strings.Contains(url, "://") {
		url = "http://" + url
	}
	cfg, _, err := config.Load(f.path())
	switch {
	case err == nil:
		if url == "" {
			url = "http://" + cfg.Admin.Listen.Dial()
		}
		if token == "" {
			token = cfg.Admin.Token
		}
	case f.Config != "" || (url == "" && !errors.Is(err, os.ErrNotExist)):
		return "", "", fmt.Errorf("find the node: %w", err)
	}
	if url == "" {
		url = "http://127.0.0.1:8081"
	}
	return strings.TrimSuffix(url, "/"), token, nil
}

// call makes one request of the admin API; the caller closes the body of the response, whose status is 200.
func (f adminFlags) call(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	url, token, err := f.target()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url+path, body)
	if err != nil {
		return nil, usageError(fmt.Sprintf("--admin %s: %s", url, err))
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: is it running? Name another with --admin or -c: %w", errUnreachable, url, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var refusal struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&refusal); err != nil || refusal.Error == "" {
		return nil, fmt.Errorf("%s answered %s: is that the admin API?", url, resp.Status)
	}
	if resp.StatusCode == http.StatusUnprocessableEntity {
		return nil, fmt.Errorf("%w: %s", errInvalidConfig, refusal.Error)
	}
	return nil, errors.New(refusal.Error)
}

// errInvalidConfig means that the node refused its configuration file.
var errInvalidConfig = errors.New("configuration refused")

// get asks for JSON and reads it into v; raw is the same as it came.
func (f adminFlags) get(ctx context.Context, method, path string, v any) (raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return f.ask(ctx, method, path, nil, v)
}

// post sends JSON and reads the answer into v; raw is the same as it came.
func (f adminFlags) post(ctx context.Context, path string, body, v any) (raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	return f.ask(ctx, http.MethodPost, path, bytes.NewReader(b), v)
}

func (f adminFlags) ask(ctx context.Context, method, path string, body io.Reader, v any) (raw []byte, err error) {
	resp, err := f.call(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's answer: %w", err)
	}
	return raw, nil
}

// readFlags are those of a command that shows one answer of the admin API.
type readFlags struct {
	adminFlags
	JSON bool `help:"Print the answer of the admin API as it is."`
}

// read gets the answer into v. With --json it prints the answer as it came instead, and says so.
func (f readFlags) read(ctx context.Context, out console, path string, v any) (printed bool, err error) {
	raw, err := f.get(ctx, http.MethodGet, path, v)
	if err == nil && f.JSON {
		_, err = out.stdout.Write(raw)
	}
	return f.JSON, err
}

// colors tells whether the terminal shows them.
func colors(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
