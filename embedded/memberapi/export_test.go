package memberapi

import "context"

// Answer returns the answer of the API on a subject. Unlike the API itself it doesn't recover panics, so that the fuzz
// test sees them.
func (s *Server) Answer(ctx context.Context, subject, op string, payload []byte) any {
	for _, a := range s.apis {
		if a.subject == subject {
			return a.answer(ctx, op, payload)
		}
	}
	return nil
}
