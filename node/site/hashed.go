package site

import "strings"

// A name with a hash of its content never has other content. What is taken for one decides two things, which do harm in
// different ways if they are wrong:
//
//   - Entry.Immutable: browsers keep the file for a year without asking. So a name such as hero-image-2024.png must
//     not count, and randomName is careful.
//   - Entry.Hashed: the file is served from an earlier deploy if the live one lacks it. A chunk that is missing breaks
//     the page that asks for it, while a forgotten image does no harm. So it also counts names that may have a hash.

// builtFolders are those that a build tool alone writes to; sharedFolders may have files of people among them.
var (
	builtFolders  = []string{"/_astro/", "/_next/static/", "/_app/immutable/", "/_nuxt/"}
	sharedFolders = []string{"/assets/", "/static/", "/build/"}
)

// Lengths of hashes in names. Many tools cut them to 8 characters of hexadecimal, base32 or base64url.
const (
	minHash = 8
	maxHash = 64
	minHex  = 16 // anywhere, whatever the folder
)

// hashedName reports whether a file's name holds a hash (sure), and whether it may hold one.
func hashedName(path string) (sure, maybe bool) {
	folder, name := path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	if longHex(name) {
		return true, true
	}
	built, shared := inFolders(folder, builtFolders), inFolders(folder, sharedFolders)
	if !built && !shared {
		return false, false
	}
	for range 3 { // main.8f3b2a1c.chunk.js.map
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 {
			break
		}
		name = name[:dot]
		s, m := hashedStem(name, built)
		sure, maybe = sure || s, maybe || m
	}
	return sure, maybe
}

func inFolders(folder string, folders []string) bool {
	for _, f := range folders {
		if strings.Contains(folder, f) {
			return true
		}
	}
	return false
}

// hashedStem is hashedName for a name without extension.
func hashedStem(stem string, built bool) (sure, maybe bool) {
	from := 0
	if !built { // a name that is a hash as a whole is one where no people name files
		if from = strings.IndexAny(stem, ".-_") + 1; from == 0 {
			return false, false
		}
	}
	last := strings.LastIndexAny(stem, ".-_") + 1
	if token := stem[max(last, from):]; hashLength(token) && alphabet(token) {
		maybe = strings.ContainsFunc(token, digitOrUpper)
		sure = maybe && (built || randomName(token))
	}
	// base64url has - and _ of its own
	if at := len(stem) - minHash; at >= from && (at == 0 || strings.IndexByte(".-_", stem[at-1]) >= 0) {
		token := stem[at:]
		if alphabet(token) && strings.ContainsFunc(token, digitOrUpper) {
			maybe, sure = true, sure || built || randomName(token)
		}
	}
	return sure, maybe
}

func hashLength(token string) bool { return len(token) >= minHash && len(token) <= maxHash }

func alphabet(token string) bool {
	return !strings.ContainsFunc(token, func(c rune) bool {
		return !digit(c) && !lower(c) && !upper(c) && c != '-' && c != '_'
	})
}

func digit(c rune) bool        { return c >= '0' && c <= '9' }
func lower(c rune) bool        { return c >= 'a' && c <= 'z' }
func upper(c rune) bool        { return c >= 'A' && c <= 'Z' }
func digitOrUpper(c rune) bool { return digit(c) || upper(c) }

// longHex reports whether a name has 16 or more hexadecimal digits in a row, letters and digits among them.
func longHex(name string) bool {
	for token := range strings.FieldsFuncSeq(name, func(c rune) bool { return !digit(c) && !lower(c) && !upper(c) }) {
		if len(token) >= minHex && hexadecimal(token) {
			return true
		}
	}
	return false
}

// hexadecimal reports whether a token is in hexadecimal digits of lower case, with letters and digits.
func hexadecimal(token string) bool {
	return strings.Trim(token, "0123456789abcdef") == "" && strings.ContainsFunc(token, digit) &&
		strings.ContainsFunc(token, lower)
}

// randomName reports whether a token looks like a hash rather than like words and numbers: not HomePage2, 20240131 or
// 1280x720. Of the hashes of base64url it knows more than 9 in 10.
func randomName(token string) bool {
	hasUpper, hasLower := strings.ContainsFunc(token, upper), strings.ContainsFunc(token, lower)
	switch {
	case hasUpper && hasLower:
		for part := range strings.FieldsFuncSeq(token, func(c rune) bool { return !lower(c) && !upper(c) }) {
			if !words(part) {
				return true
			}
		}
		return alternations(token) >= 3
	case hasLower:
		return hexadecimal(token) || alternations(token) >= 3
	default:
		return hasUpper && alternations(token) >= 2
	}
}

// words reports whether letters are words: BtnClose, HouseOfCards, FAQPage.
func words(letters string) bool {
	begin := 0
	for i := 1; i <= len(letters); i++ {
		if i < len(letters) {
			c, before := rune(letters[i]), rune(letters[i-1])
			next := rune(letters[min(i+1, len(letters)-1)])
			if !upper(c) || (upper(before) && !lower(next)) {
				continue
			}
		}
		if !oneWord(letters[begin:i]) {
			return false
		}
		begin = i
	}
	return true
}

const (
	shortWords    = " ad am an as at be by do go hi id if in io is it me my no of ok on or so to up us we "
	abbreviations = " btn css csv ctx dns fn gps gz html http jpg js lg md ms mp pdf php png px rgb sm src srv ssl " +
		"svg tls ts tv txt utm vs wp xl xml xs "
)

// oneWord reports whether letters, of which only the first or all are capital, are a word, an abbreviation or initials.
func oneWord(s string) bool {
	if strings.ToUpper(s) == s {
		return len(s) <= 4
	}
	s = strings.ToLower(s)
	if len(s) <= 2 {
		return strings.Contains(shortWords+abbreviations, " "+s+" ")
	}
	return strings.ContainsAny(s, "aeiouy") || strings.Contains(abbreviations, " "+s+" ")
}

// alternations returns how often a letter follows a digit, or a digit a letter.
func alternations(token string) int {
	n := 0
	for i := 1; i < len(token); i++ {
		if digit(rune(token[i])) != digit(rune(token[i-1])) {
			n++
		}
	}
	return n
}

// pathList is Options.Immutable: exact paths, and paths that end in /*.
type pathList []string

func (l pathList) match(path string) bool {
	for _, p := range l {
		if folder, all := strings.CutSuffix(p, "*"); all && strings.HasPrefix(path, folder) || p == path {
			return true
		}
	}
	return false
}
