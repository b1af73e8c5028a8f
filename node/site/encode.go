package site

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrManifest is in the error of Decode for anything but a manifest that Encode wrote.
var ErrManifest = errors.New("not a manifest")

// Encode returns the one encoding of m: the same files and rules give the same bytes, and so the same deploy. The error
// says what Decode would refuse.
func Encode(m *Manifest) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	text, err := m.encode()
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	if len(text) > MaxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, more than %d: publish fewer files", len(text), MaxManifest)
	}
	return text, nil
}

// encode writes m as JSON. Maps are in the order of their keys, and what is empty is left out.
func (m *Manifest) encode() ([]byte, error) {
	plain := *m
	if plain.Files == nil {
		plain.Files = map[string]File{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(&plain)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Decode reads what Encode wrote. It refuses everything else: another version, a path, blob or rule that publishing a
// folder can't give, more than the limits allow, and any other spelling of the same manifest, such as a key twice. Its
// memory is bounded by the limits. The error is ErrManifest and says why.
func Decode(data []byte) (*Manifest, error) {
	m, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, nil
}

func decode(data []byte) (*Manifest, error) {
	if len(data) > MaxManifest {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(data), MaxManifest)
	}
	var m Manifest
	if err := m.read(data); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("it isn't in its one spelling")
	}
	return &m, nil
}

// Limits of one value in an encoded manifest, in bytes: more than the largest one has. Of many small elements, which a
// decoded value has room for in vain, a longer text would make 30 times its size.
const (
	maxFileText = 3 << 20   // four forms of a file of MaxFile, with their chunks
	maxRuleText = 128 << 10 // fields of maxFieldsBytes, each character escaped
)

// read decodes a manifest piece by piece, so that one with too many files, or with one that is too large, ends there.
// What it lets pass, such as an unknown key of a file, the comparison of spellings in decode finds.
func (m *Manifest) read(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := expect(dec, json.Delim('{')); err != nil {
		return err
	}
	seen := map[json.Token]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("key %q is in it twice", key)
		}
		switch key {
		case "version":
			err = dec.Decode(&m.Version)
		case "files":
			err = m.readFiles(dec)
		case "headers":
			m.Headers, err = readRules[HeaderRule](dec)
		case "redirects":
			m.Redirects, err = readRules[Redirect](dec)
		default:
			err = fmt.Errorf("unknown key %q", shorten(fmt.Sprint(key)))
		}
		if err != nil {
			return err
		}
		seen[key] = true
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

func (m *Manifest) readFiles(dec *json.Decoder) error {
	if err := expect(dec, json.Delim('{')); err != nil {
		return err
	}
	m.Files = map[string]File{}
	for dec.More() {
		if len(m.Files) == MaxFiles {
			return errTooManyFiles
		}
		key, err := dec.Token()
		if err != nil {
			return err
		}
		path, _ := key.(string) // a key is a string, or Token has an error
		if len(path) > maxPattern {
			return fmt.Errorf("file %s: its path has %d bytes", shorten(path), len(path))
		}
		if _, again := m.Files[path]; again {
			return fmt.Errorf("file %s is in it twice", path)
		}
		var f File
		if err := readValue(dec, &f, maxFileText); err != nil {
			return fmt.Errorf("file %s: %w", path, err)
		}
		if err := f.checkSizes(); err != nil {
			return fmt.Errorf("file %s: %w", path, err)
		}
		m.Files[path] = f
	}
	return expect(dec, json.Delim('}'))
}

// readValue reads one value into v, unless its text is too long.
func readValue(dec *json.Decoder, v any, longest int) error {
	var text json.RawMessage
	if err := dec.Decode(&text); err != nil {
		return err
	}
	if len(text) > longest {
		return fmt.Errorf("it has %d bytes, more than %d", len(text), longest)
	}
	return json.Unmarshal(text, v)
}

func readRules[T HeaderRule | Redirect](dec *json.Decoder) ([]T, error) {
	if err := expect(dec, json.Delim('[')); err != nil {
		return nil, err
	}
	var rules []T
	for dec.More() {
		if len(rules) == MaxRules {
			return nil, errTooManyRules
		}
		var r T
		if err := readValue(dec, &r, maxRuleText); err != nil {
			return nil, fmt.Errorf("rule %d: %w", len(rules)+1, err)
		}
		if h, ok := any(&r).(*HeaderRule); ok && h.fields() > maxRuleFields {
			return nil, errTooManyFields
		}
		rules = append(rules, r)
	}
	return rules, expect(dec, json.Delim(']'))
}

func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("%v instead of %v", got, want)
	}
	return nil
}
