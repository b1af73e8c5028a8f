package node

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// JSON is compact JSON text, for a value of a configuration that others interpret. The empty string means no value,
// unlike null.
type JSON string

// UnmarshalJSON stores the compacted text.
func (j *JSON) UnmarshalJSON(text []byte) error {
	var short bytes.Buffer
	if err := json.Compact(&short, text); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	*j = JSON(short.String())
	return nil
}

// MarshalJSON returns the text; null for no value.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == "" {
		return []byte("null"), nil
	}
	return []byte(j), nil
}
