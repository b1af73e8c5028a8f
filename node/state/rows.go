package state

import (
	"context"
	"database/sql"
)

// scanner is a row of either kind: *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// queryAll runs a query and scans all of its rows.
func queryAll[T any](ctx context.Context, s *Store, scan func(scanner) (T, error), query string,
	args ...any,
) ([]T, error) {
	out := []T{}
	err := s.reading(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			item, err := scan(rows)
			if err != nil {
				return err
			}
			out = append(out, item)
		}
		return rows.Err()
	})
	return out, err
}

// rowLimit converts a caller's limit to SQL, where a negative one means all rows.
func rowLimit(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}
