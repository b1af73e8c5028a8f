package memberapi

import "context"

// Answer gives what the API on a subject answers, where nothing recovers a panic.
func (s *Server) Answer(ctx context.Context, subject, op string, payload []byte) any {
	for _, a := range s.apis {
		if a.subject == subject {
			return a.answer(ctx, op, payload)
		}
	}
	return nil
}
