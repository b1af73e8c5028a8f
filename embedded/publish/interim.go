package publish

import "millrace/node/site"

// The parsers of rules come with the next slice of node/site.
type ruleProblem struct {
	Line, Column int
	Text         string
}

func parseHeaders([]byte) ([]site.HeaderRule, []ruleProblem) { return nil, nil }

func parseRedirects([]byte) ([]site.Redirect, []ruleProblem) { return nil, nil }

func (p *problems) rules(name string, wrong []ruleProblem) {
	for _, w := range wrong {
		p.put(Problem{Severity: Bad, Name: name, Line: w.Line, Column: w.Column, Message: w.Text})
	}
}
