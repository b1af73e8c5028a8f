package publish

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// wellKnown is the one name with a dot that belongs to the Web (RFC 8615).
const wellKnown = ".well-known"

// hidden reports whether one part of a path is left out unless it is included.
func hidden(part string) bool { return strings.HasPrefix(part, ".") && part != wellKnown }

// secretNames are names of files and folders that hold secrets, in lower case.
var secretNames = []string{
	".git", ".svn", ".hg", ".npmrc", ".yarnrc", ".netrc", ".pypirc", ".pgpass", ".htpasswd", ".git-credentials",
	".aws", ".ssh", ".gnupg", ".kube", ".docker", ".azure", ".terraform", ".vault-token", ".dockercfg", ".dev.vars",
}

// secretEnds are the ends of names of files that hold secrets, in lower case.
var secretEnds = []string{
	".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".ppk", ".kdbx", ".tfstate", ".tfstate.backup",
}

// secretStarts are the starts of names of private keys as ssh-keygen makes them.
var secretStarts = []string{"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"}

// secret reports whether one part of a path names something that is hardly ever meant to be published. Case doesn't
// count.
func secret(part string) bool {
	part = strings.ToLower(part)
	if slices.Contains(secretNames, part) || part == ".env" || strings.HasPrefix(part, ".env.") ||
		(strings.HasPrefix(part, ".env") && !strings.Contains(part[1:], ".")) {
		return true
	}
	for _, end := range secretEnds {
		if strings.HasSuffix(part, end) {
			return true
		}
	}
	for _, start := range secretStarts {
		if strings.HasPrefix(part, start) && !strings.HasSuffix(part, ".pub") {
			return true
		}
	}
	return false
}

// secretPath returns the first part of a path that is secret; "" if none is.
func secretPath(name string) string {
	for part := range strings.SplitSeq(name, "/") {
		if secret(part) {
			return part
		}
	}
	return ""
}

// privateKey reports whether a file that begins so is a private key in PEM (RFC 7468), whatever its name is.
func privateKey(head []byte) bool {
	line, _, _ := bytes.Cut(bytes.TrimLeft(head, "\xef\xbb\xbf \t\r\n"), []byte("\n"))
	return bytes.HasPrefix(line, []byte("-----BEGIN ")) && bytes.Contains(line, []byte("PRIVATE KEY"))
}

// included reports whether a pattern of Options.Include names the path or its last part.
func included(patterns []string, name string) bool {
	for _, p := range patterns {
		p = strings.Trim(p, "/")
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
		if ok, err := path.Match(p, path.Base(name)); ok && err == nil {
			return true
		}
	}
	return false
}
