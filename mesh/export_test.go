package mesh

// The codec, for tests that look at bytes.
var (
	AppendRequest  = appendRequest
	AppendResponse = appendResponse
	DecodeRequest  = decodeRequest
	DecodeResponse = decodeResponse
)
