package site

func checkHeaders([]HeaderRule) error { return nil }
func checkRedirects([]Redirect) error { return nil }
