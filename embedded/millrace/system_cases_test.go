//go:build system

package main_test

import (
	"fmt"
	"slices"
	"strings"
)

func get(target string, fields ...string) exchange {
	return exchange{method: "GET", target: target, fields: fields}
}

func head(target string, fields ...string) exchange {
	return exchange{method: "HEAD", target: target, fields: fields}
}

func send(method, target, mediaType, body string, fields ...string) exchange {
	return exchange{
		method: method, target: target, fields: append([]string{"Content-Type: " + mediaType}, fields...),
		body: body,
	}
}

// expressCases are all requests of TestExpress.
func expressCases() []exchange {
	return slices.Concat(methodCases(), pathCases(), queryCases(), fieldCases(), bodyCases(), redirectCases(),
		statusCases(),
		answerCases(), conditionalCases(), headCases())
}

func methodCases() (cases []exchange) {
	for _, m := range []string{
		"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PROPPATCH", "REPORT", "SEARCH",
		"PURGE", "COPY", "MOVE", "MKCOL", "LOCK", "UNLOCK", "LINK", "UNLINK", "M-SEARCH", "NOTIFY", "SUBSCRIBE", "ACL",
	} {
		cases = append(cases, exchange{method: m, target: "/echo/method"})
	}
	// What Express does without a handler.
	for _, m := range []string{"GET", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"} {
		cases = append(cases, exchange{method: m, target: "/resource"})
	}
	return append(cases,
		send("DELETE", "/echo/body", "application/json", `{"why":"not"}`),
		send("GET", "/echo/body", "application/json", `{"q":1}`),
		send("PROPFIND", "/echo/body", "application/xml", `<x/>`),
		exchange{method: "GET", target: "/echo/old", version: "1.0"},
		exchange{method: "GET", target: "/chunked", version: "1.0"},
		exchange{method: "OPTIONS", target: "/json"},
		exchange{method: "POST", target: "/status/200"},
		exchange{method: "PATCH", target: "/nowhere"},
	)
}

func pathCases() []exchange {
	const canonical = "the path is made canonical once, for routing, policies and forwarding (edge/DESIGN.md)"
	changed := func(target, seen string) exchange {
		return exchange{method: "GET", target: target, seen: seen, why: canonical}
	}
	absolute := exchange{
		method: "GET", target: "http://shop.example/echo/absolute?a=1", seen: "/echo/absolute?a=1",
		why: "a proxy forwards origin-form",
	}
	return []exchange{
		get("/"), get("/echo"), get("/echo/"), get("/echo//"), get("/echo//a//b"), get("//echo/a"), get("//"),
		get("/echo/a/b/c.d/e-f_g~h"), get("/echo/a%20b"), get("/echo/a+b"), get("/echo/100%25"),
		get("/echo/caf%C3%A9/%E4%B8%96%E7%95%8C/%F0%9F%8C%8D"),
		get("/echo/a%2Fb"), get("/echo/!$&'()*+,;=:@"), get("/echo/;v=1,2"), get("/echo/..."),
		get("/echo/.well-known/x"), get("/echo/a..b"),
		get("/echo/%3Fnot-query%23not-fragment"), get("/echo/" + strings.Repeat("long/", 400)),
		changed("/echo/a|b", "/echo/a%7Cb"), changed("/echo/{id}/[x]/^", "/echo/%7Bid%7D/%5Bx%5D/%5E"),
		changed("/echo/%7euser/%41%2d", "/echo/~user/A-"), changed("/echo/caf%c3%a9", "/echo/caf%C3%A9"), absolute,
		get("/users/J%C3%BCrgen%20M"), get("/users/a%2Fb"), get("/users/a%3Fb%26c"), get("/users/"), get("/users"),
		get("/USERS/x"),
		get("/strict/a"), get("/strict/a/"), get("/strict/A"), get("/static/app.js"), get("/static/none"),
		get("/static"), get("/static/"), get("/nowhere"), get("/nowhere/%3Cscript%3E"), get("/node_modules"),
	}
}

func queryCases() (cases []exchange) {
	for _, q := range []string{
		"?a=1&b=2", "?a=1&a=2&a=1", "?a[]=1&a[]=2&o[k]=v", "?", "??", "?flag", "?empty=", "?=v", "?&&", "?a=b=c",
		"?q=caf%C3%A9+%20x",
		"?json={\"a\":[1|2]}^`", "?q=<b>'\\", "?bad=%zz&half=%", "?path=../../etc&u=http://x/?y=/", "?a;b;c",
		"?low=%c3%a9%2f%41", "?q=%00%0d%0a", "?" + strings.Repeat("k=v&", 500),
	} {
		cases = append(cases, get("/echo/query"+q))
	}
	return append(cases, get("/?root=1"), get("/jsonp?callback=cb"), get("/jsonp?callback=a.b[%22c%22]"),
		get("/nowhere?x=%3Cy%3E"))
}

func fieldCases() []exchange {
	untrusted := get("/echo/forged", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https",
		"X-Forwarded-Host: evil.example",
		"X-Forwarded-Port: 1", "Forwarded: for=1.2.3.4", "X-Request-Id: mine", "X-Real-Thing: stays")
	untrusted.lost = []string{
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
		"Forwarded", "X-Request-Id",
	}
	control := get("/echo/control", "Millrace-Deadline: 1", "millrace-nonce: n", "Nats-Msg-Id: 1", "Milli: stays")
	control.lost = []string{"Millrace-Deadline", "Millrace-Nonce", "Nats-Msg-Id"}
	hops := get("/echo/hops", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "TE: trailers",
		"Proxy-Authorization: Basic eA==",
		"Upgrade-Insecure-Requests: 1")
	hops.lost = []string{"X-Hop", "TE", "Proxy-Authorization"}
	return []exchange{
		untrusted, control, hops,
		get("/echo/fields", "x-CuStOm: Case", "X-Twice: 1", "x-twice: 2", "X-Empty:", "X-Space: \t a  b \t",
			"X_Under.~!#$%&'*+^`|: token"),
		get("/echo/fields", "X-Latin: caf\xe9", "X-UTF8: Grüße 世界"),
		get("/echo/browser", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Accept: text/html,*/*;q=0.8",
			"Accept-Language: de,en;q=0.5",
			"Accept-Encoding: gzip, deflate, br, zstd", "Referer: http://shop.example/a?b", "Origin: null", "DNT: 1",
			"Sec-Fetch-Mode: navigate",
			"Priority: u=0, i", "Cache-Control: no-cache", "Pragma: no-cache",
			"Sec-CH-UA: \"Chromium\";v=\"1\", \"Not)A;Brand\";v=\"2\""),
		get("/echo/auth", "Authorization: Basic dXNlcjpwYXNz", "Via: 1.0 other", "Range: bytes=0-1", "If-Match: \"x\"",
			"Max-Forwards: 3"),
		get("/echo/trace", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			"Tracestate: a=1,b=2", "Baggage: k=v"),
		get("/echo/cookies", "Cookie: a=1; b=\"2, 3\"; c=%20", "cookie: d=4"),
		get("/echo/large", "Cookie: big="+strings.Repeat("c", 6000)),
		get("/echo/large", "X-Large: "+strings.Repeat("v", 16000)),
		get("/echo/many", manyFields(60)...),
		get("/cookies"), get("/cookies", "Cookie: session=abc; theme=dark"),
		get("/cookies", "Cookie: big="+strings.Repeat("c", 6000)),
		get("/repeat"), get("/401"), get("/links"), get("/fields"), get("/odd-fields"), get("/large-field"),
		get("/many-fields"), get("/date"),
		get("/nodate"), get("/untyped"), get("/early"), get("/attachment"), get("/close"),
		get("/repeat", "Connection: close"),
	}
}

func manyFields(n int) (fields []string) {
	for i := range n {
		fields = append(fields, fmt.Sprintf("X-Field-%d: %d", i, i))
	}
	return fields
}

// octets returns every byte value n times, 256 n bytes.
func octets(n int) string {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return strings.Repeat(string(all), n)
}

func bodyCases() []exchange {
	const form = "application/x-www-form-urlencoded"
	chunked := func(e exchange) exchange { e.chunked = true; return e }
	expect := func(e exchange) exchange { e.expect, e.lost = true, []string{"Expect"}; return e }
	multipart := "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--XX\r\n" +
		"Content-Disposition: form-data; name=\"f\"; filename=\"b.bin\"\r\n" +
		"Content-Type: application/octet-stream\r\n\r\n" + octets(4) + "\r\n--XX--\r\n"
	big := octets(300_000 / 256)
	return []exchange{
		send("POST", "/json", "application/json", `{"name":"Ada","list":[1,2,{"x":null}]}`),
		send("POST", "/json", "application/json; charset=utf-8", `{"text":"Grüße, 世界 🌍"}`),
		send("POST", "/json", "application/json", `{"broken":`), send("POST", "/json", "application/json", ""),
		// 413
		send("POST", "/json", "text/plain", "not json"),
		send("POST", "/json", "application/json", `"`+strings.Repeat("x", 120_000)+`"`),
		send("POST", "/json", "application/json; charset=nope", `{}`), // 415
		send("POST", "/form", form, "a=1&b=2&a=3"),
		send("POST", "/form", form, "user[name]=A%20B&user[tags][]=x&user[tags][]=y+z&e="),
		send("POST", "/text", "text/plain; charset=utf-8", "line 1\r\nline 2 – é\n"),
		send("POST", "/text", "text/plain; charset=latin1", "caf\xe9"),
		send("POST", "/raw", "application/octet-stream", octets(1)), send("PUT", "/raw", "image/png", octets(40)),
		send("POST", "/raw", "multipart/form-data; boundary=XX", multipart),
		chunked(send("POST", "/raw", "multipart/form-data; boundary=XX", multipart)),
		send("POST", "/echo/gzip", "application/json", octets(1), "Content-Encoding: gzip"),
		send("PUT", "/digest", "application/octet-stream", big),
		chunked(send("PUT", "/digest", "application/octet-stream", big)),
		expect(send("PUT", "/digest", "application/octet-stream", big)),
		expect(send("POST", "/echo/expect", "text/plain", "after 100")),
		send("POST", "/raw", "application/octet-stream", big),
		chunked(send("POST", "/raw", "application/octet-stream", big)),
		send("POST", "/raw", "application/octet-stream", octets(2047)), // just under 512 KiB both ways
		send("POST", "/echo/empty", "text/plain", ""), chunked(send("POST", "/echo/empty", "text/plain", "")),
		chunked(send("POST", "/echo/chunked", "text/plain", "some text")),
		chunked(send("PATCH", "/raw", "text/plain", strings.Repeat("0123456789", 1000))),
		{method: "POST", target: "/echo/untyped", body: "no type"},
		send("POST", "/echo/smuggle", "text/plain", "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"),
	}
}

func redirectCases() (cases []exchange) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, kind := range []string{"relative", "path", "absolute", "hostname"} {
			cases = append(cases, get(fmt.Sprintf("/redirect/%s/%d", kind, code)))
		}
	}
	return append(cases, get("/redirect/other"), get("/created"),
		send("POST", "/redirect/absolute/303", "text/plain", "form"),
		head("/redirect/path/301"), get("/redirect/path/302", "Accept: text/html"),
		get("/redirect/path/302", "Accept: application/json"))
}

func statusCases() (cases []exchange) {
	for _, code := range []int{
		200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 304, 305, 306, 400, 401, 402, 403, 404, 405, 406, 408,
		409, 410, 411, 412, 413, 414,
		415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506,
		507, 508, 510, 511, 599,
	} {
		cases = append(cases, get(fmt.Sprintf("/status/%d", code)))
	}
	for _, code := range []int{200, 204, 205, 304, 404, 500, 503} {
		cases = append(cases, get(fmt.Sprintf("/bare/%d", code)), get(fmt.Sprintf("/sendstatus/%d", code)),
			head(fmt.Sprintf("/status/%d", code)),
			exchange{method: "POST", target: fmt.Sprintf("/status/%d", code)})
	}
	return cases
}

func answerCases() []exchange {
	return []exchange{
		get("/json"), get("/html"), get("/binary"), get("/gzip"), get("/gzip", "Accept-Encoding: gzip"),
		get("/brotli", "Accept-Encoding: br"),
		get("/gzip", "Accept-Encoding: identity"), get("/chunked"), get("/chunked-big"), get("/chunked-empty"),
		get("/events"), get("/empty"),
		get("/empty-send"), get("/empty-json"), get("/big"), get("/big", "Accept-Encoding: gzip, br"), get("/message"),
		get("/throws"), get("/rejects"),
		get("/handled"), get("/throws", "Accept: application/json"), get("/download"), get("/missing-file"),
		get("/jsonp"), get("/negotiate"), get("/negotiate", "Accept: text/html"),
		get("/negotiate", "Accept: application/json;q=0.9, text/plain;q=0.1"),
		get("/negotiate", "Accept: image/png"),
	}
}

func conditionalCases() []exchange {
	const strong, longAgo = `"v1"`, "Wed, 01 Jan 2020 00:00:00 GMT"
	return []exchange{
		get("/etag"), get("/etag", "If-None-Match: *"), get("/etag", `If-None-Match: "other"`), get("/strong"),
		get("/strong", "If-None-Match: "+strong),
		get("/strong", `If-None-Match: "a", W/"v1"`),
		get("/strong", "If-None-Match: "+strong, "Cache-Control: no-cache"),
		get("/modified"), get("/modified", "If-Modified-Since: "+longAgo),
		get("/modified", "If-Modified-Since: Tue, 31 Dec 2019 23:59:59 GMT"),
		get("/file"), get("/file", "Range: bytes=0-9"), get("/file", "Range: bytes=-5"),
		get("/file", "Range: bytes=100-"),
		get("/file", "Range: bytes=0-1,5-6"), get("/file", "Range: bytes=9999999-"), get("/file", "Range: items=0-1"),
		get("/file", "Range: bytes=0-9", `If-Range: "no"`), get("/file", "If-None-Match: *"),
		get("/file", `If-Match: "no"`),
		get("/file", "If-Unmodified-Since: "+longAgo),
		get("/static/app.js", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"),
	}
}

func headCases() (cases []exchange) {
	for _, target := range []string{
		"/json", "/big", "/gzip", "/chunked", "/empty", "/empty-send", "/head-only", "/head-unsized", "/etag", "/file",
		"/nowhere", "/throws", "/cookies", "/repeat", "/untyped", "/nodate", "/negotiate", "/static/app.js",
	} {
		cases = append(cases, head(target))
	}
	return append(cases, head("/strong", `If-None-Match: "v1"`), head("/file", "Range: bytes=0-9"), get("/json"))
}
