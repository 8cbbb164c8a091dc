//! What lines carry beside blocks and index, which the simulated world does not: headers of packets, of HTTP, of TLS.

/// Bytes of a full Ethernet frame without its checksum: 14 of header, and an IP packet of 1500 (RFC 894). What a
/// shaper of Linux counts for a packet.
const FRAME: f64 = 1514.0;
/// Bytes of data in it over TCP: without 20 of IPv4, 20 of TCP and 12 of time stamps (RFC 9293, RFC 7323).
const TCP_PAYLOAD: f64 = 1448.0;
/// Headers of HTTP answers: bytes beyond those of packets in the branch office of `docs/benchmarks.md`, where the WAN
/// carried 1.047 times the encoded size and packets alone make it 1.0456.
const HTTP: f64 = 1.001;
/// A record of TLS 1.3 carries 16384 bytes at most, beside a header of 5, a content type and a tag of 16 (RFC 8446).
const TLS: f64 = (16_384.0 + 22.0) / 16_384.0;
/// Bytes of headers in a full QUIC packet on an Ethernet of 1500: UDP and IPv4 28, short header with an 8-byte connection
/// id 11, tag 16, header of a stream frame 10 (RFC 9000, RFC 9001).
const QUIC_HEADERS: f64 = 65.0;

/// Bytes that a WAN carries for each byte that an origin sends as part of a pack or an index.
pub(crate) fn wan(tls: bool) -> f64 {
    FRAME / TCP_PAYLOAD * HTTP * if tls { TLS } else { 1.0 }
}

/// Bytes that a LAN carries for each byte that a member gives another.
pub(crate) fn mesh() -> f64 {
    FRAME / (FRAME - 14.0 - QUIC_HEADERS)
}

/// Bytes that a rate leaves for data.
pub(crate) fn left_for_data(bytes_per_second: u64, overhead: f64) -> u64 {
    ((bytes_per_second as f64 / overhead) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wan_without_tls_carries_what_was_counted() {
        assert!((wan(false) - 1.047).abs() < 0.001, "{}", wan(false));
        assert!(wan(true) > wan(false));
        assert_eq!(left_for_data(0, 1.05), 1);
    }
}
