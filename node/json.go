package node

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// JSON is a JSON text, as short as it can be, for a value that a configuration holds and others read. Empty is none at
// all, which null isn't.
type JSON string

// UnmarshalJSON keeps the text.
func (j *JSON) UnmarshalJSON(text []byte) error {
	var short bytes.Buffer
	if err := json.Compact(&short, text); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	*j = JSON(short.String())
	return nil
}

// MarshalJSON gives the text, and null for none.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == "" {
		return []byte("null"), nil
	}
	return []byte(j), nil
}
