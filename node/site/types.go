package site

import "strings"

// unknownType is the type of files whose extension the table lacks. Browsers offer them for download.
const unknownType = "application/octet-stream"

// TypeOf returns the Content-Type of a file from its extension, in any case of letters. It is the same on every system,
// and never looks into the file. Text has charset=utf-8. What isn't known is application/octet-stream.
func TypeOf(path string) string {
	if t, ok := types[extension(path)]; ok {
		return t
	}
	return unknownType
}

// extension returns what follows the last dot of a path's last segment, in lower case; empty if nothing does.
func extension(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return ""
	}
	return strings.ToLower(name[dot+1:])
}

// Compressible reports whether files of a Content-Type become smaller by a coding: text, and formats that aren't
// compressed already.
func Compressible(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	switch kind {
	case "image/bmp", "image/x-icon", "font/ttf", "font/otf", "font/collection", "application/vnd.ms-fontobject",
		"application/json", "application/xml", "application/wasm", "application/javascript", "application/rtf",
		"application/yaml", "application/toml", "application/sql", "application/x-sh", "model/gltf-binary", "model/obj",
		"model/stl", "application/x-subrip", "application/vnd.apple.mpegurl", "application/postscript",
		"application/jsonl", "application/json5", "application/x-ndjson", "application/graphql":
		return true
	}
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+xml") || strings.HasSuffix(kind, "+json")
}

// types has the media types by extension. Text has its charset here, so that nothing is put together for a request.
// The types are those of the IANA registry where it has one; JavaScript has text/javascript (RFC 9239).
var types = map[string]string{
	// Pages, styles, scripts.
	"html": "text/html; charset=utf-8", "htm": "text/html; charset=utf-8",
	"xhtml": "application/xhtml+xml; charset=utf-8",
	"css":   "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "mjs": "text/javascript; charset=utf-8",
	"cjs": "text/javascript; charset=utf-8", "jsx": "text/javascript; charset=utf-8", "wasm": "application/wasm",
	"vtt": "text/vtt; charset=utf-8", "hbs": "text/plain; charset=utf-8", "vue": "text/plain; charset=utf-8",

	// Data.
	"json": "application/json", "map": "application/json", "json5": "application/json5", "jsonl": "application/jsonl",
	"ndjson": "application/x-ndjson", "jsonld": "application/ld+json", "geojson": "application/geo+json",
	"topojson": "application/json", "webmanifest": "application/manifest+json", "har": "application/json",
	"xml": "application/xml; charset=utf-8", "xsl": "application/xml; charset=utf-8",
	"xslt": "application/xslt+xml; charset=utf-8", "xsd": "application/xml; charset=utf-8",
	"dtd": "application/xml-dtd; charset=utf-8", "rss": "application/rss+xml; charset=utf-8",
	"atom": "application/atom+xml; charset=utf-8", "rdf": "application/rdf+xml; charset=utf-8",
	"kml": "application/vnd.google-earth.kml+xml; charset=utf-8", "kmz": "application/vnd.google-earth.kmz",
	"gpx": "application/gpx+xml; charset=utf-8", "yaml": "application/yaml; charset=utf-8",
	"yml": "application/yaml; charset=utf-8", "toml": "application/toml; charset=utf-8",
	"sql": "application/sql; charset=utf-8", "csv": "text/csv; charset=utf-8",
	"tsv": "text/tab-separated-values; charset=utf-8", "ics": "text/calendar; charset=utf-8",
	"vcf": "text/vcard; charset=utf-8", "ttl": "text/turtle; charset=utf-8", "sqlite": "application/vnd.sqlite3",
	"pbf": "application/x-protobuf", "mvt": "application/vnd.mapbox-vector-tile",
	"parquet": "application/vnd.apache.parquet",

	// Plain text.
	"txt": "text/plain; charset=utf-8", "text": "text/plain; charset=utf-8", "log": "text/plain; charset=utf-8",
	"ini": "text/plain; charset=utf-8", "conf": "text/plain; charset=utf-8", "diff": "text/plain; charset=utf-8",
	"patch": "text/plain; charset=utf-8", "md": "text/markdown; charset=utf-8",
	"markdown": "text/markdown; charset=utf-8", "mdx": "text/markdown; charset=utf-8",
	"rst": "text/plain; charset=utf-8", "adoc": "text/plain; charset=utf-8", "tex": "text/plain; charset=utf-8",
	"sh": "application/x-sh; charset=utf-8", "asc": "application/pgp-signature; charset=utf-8",
	"srt": "application/x-subrip; charset=utf-8", "graphql": "application/graphql; charset=utf-8",

	// Images.
	"svg": "image/svg+xml; charset=utf-8", "png": "image/png", "apng": "image/apng", "jpg": "image/jpeg",
	"jpeg": "image/jpeg", "jfif": "image/jpeg", "gif": "image/gif", "webp": "image/webp", "avif": "image/avif",
	"heic": "image/heic", "heif": "image/heif", "jxl": "image/jxl", "bmp": "image/bmp", "ico": "image/x-icon",
	"cur": "image/x-icon", "tif": "image/tiff", "tiff": "image/tiff", "psd": "image/vnd.adobe.photoshop",

	// Fonts.
	"woff": "font/woff", "woff2": "font/woff2", "ttf": "font/ttf", "otf": "font/otf", "ttc": "font/collection",
	"eot": "application/vnd.ms-fontobject",

	// Sound and video.
	"mp3": "audio/mpeg", "m4a": "audio/mp4", "aac": "audio/aac", "oga": "audio/ogg", "ogg": "audio/ogg",
	"opus": "audio/ogg", "wav": "audio/wav", "flac": "audio/flac", "weba": "audio/webm", "mid": "audio/midi",
	"midi": "audio/midi", "aif": "audio/aiff", "aiff": "audio/aiff", "mp4": "video/mp4", "m4v": "video/mp4",
	"webm": "video/webm", "ogv": "video/ogg", "mov": "video/quicktime", "avi": "video/x-msvideo",
	"mkv": "video/matroska", "mpg": "video/mpeg", "mpeg": "video/mpeg", "3gp": "video/3gpp", "ts": "video/mp2t",
	"m4s": "video/iso.segment", "m3u8": "application/vnd.apple.mpegurl", "mpd": "application/dash+xml; charset=utf-8",

	// Documents.
	"pdf": "application/pdf", "epub": "application/epub+zip", "rtf": "application/rtf", "ps": "application/postscript",
	"doc": "application/msword", "xls": "application/vnd.ms-excel", "ppt": "application/vnd.ms-powerpoint",
	"docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	"xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	"odt":  "application/vnd.oasis.opendocument.text", "ods": "application/vnd.oasis.opendocument.spreadsheet",
	"odp": "application/vnd.oasis.opendocument.presentation",

	// Archives and programs.
	"zip": "application/zip", "gz": "application/gzip", "tgz": "application/gzip", "tar": "application/x-tar",
	"bz2": "application/x-bzip2", "xz": "application/x-xz", "zst": "application/zstd", "br": "application/x-brotli",
	"7z": "application/x-7z-compressed", "rar": "application/vnd.rar", "jar": "application/java-archive",
	"apk": "application/vnd.android.package-archive", "deb": "application/vnd.debian.binary-package",
	"dmg": "application/x-apple-diskimage", "msi": "application/x-msi", "bin": unknownType, "exe": unknownType,
	"iso": unknownType, "crx": "application/x-chrome-extension", "xpi": "application/x-xpinstall",

	// Shapes.
	"gltf": "model/gltf+json", "glb": "model/gltf-binary", "obj": "model/obj", "stl": "model/stl",
	"usdz": "model/vnd.usdz+zip",
}
