package node

// Failure is what failed between a gateway and the next hop, in the terms of RFC 9209 §2.3. Clients get it in
// Proxy-Status.
type Failure string

// The known failures.
const (
	FailureNameTimeout     Failure = "dns_timeout"
	FailureName            Failure = "dns_error"
	FailureUnavailable     Failure = "destination_unavailable"
	FailureUnroutable      Failure = "destination_ip_unroutable"
	FailureRefused         Failure = "connection_refused"
	FailureTerminated      Failure = "connection_terminated"
	FailureConnectTimeout  Failure = "connection_timeout"
	FailureConnectionLimit Failure = "connection_limit_reached"
	FailureTLS             Failure = "tls_protocol_error"
	FailureCertificate     Failure = "tls_certificate_error"
	FailureAlert           Failure = "tls_alert_received"
	FailureIncomplete      Failure = "http_response_incomplete"
	FailureHeadSize        Failure = "http_response_header_section_size"
	FailureBodySize        Failure = "http_response_body_size"
	FailureCoding          Failure = "http_response_transfer_coding"
	FailureTimeout         Failure = "http_response_timeout"
	FailureUpgrade         Failure = "http_upgrade_failed"
	FailureProtocol        Failure = "http_protocol_error"
	FailureInternal        Failure = "proxy_internal_error"
	FailureLoop            Failure = "proxy_loop_detected"
)

// Known reports whether the failure is one of the above. One reported by another node may not be.
func (f Failure) Known() bool {
	switch f {
	case FailureNameTimeout, FailureName, FailureUnavailable, FailureUnroutable, FailureRefused, FailureTerminated,
		FailureConnectTimeout, FailureConnectionLimit, FailureTLS, FailureCertificate, FailureAlert, FailureIncomplete,
		FailureHeadSize, FailureBodySize, FailureCoding, FailureTimeout, FailureUpgrade, FailureProtocol,
		FailureInternal,
		FailureLoop:
		return true
	}
	return false
}
