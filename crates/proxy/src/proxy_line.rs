//! Which bytes at the start of a connection tell an origin the client's
//! circuit: the PROXY protocol of HAProxy, with addresses made of the circuit's
//! number. Pure.

/// The prefix that C tor puts before a circuit's number to make an address of
/// it: a unique local one (RFC 4193) that nobody has.
const PREFIX: [u16; 4] = [0xfc00, 0xdead, 0xbeef, 0x4dad];

/// The header of version 2, before the addresses: the signature, version 2 and
/// command PROXY, TCP over IPv6, and the length of what follows.
const V2_START: &[u8; 16] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24";

/// The line of version 1, as C tor writes it for `HiddenServiceExportCircuitID
/// haproxy`: the low 32 bits of the circuit's number in the source address, the
/// low 16 also as the source port, and the virtual port as the destination's.
pub fn v1(circuit: u64, port: u16) -> Vec<u8> {
    let [a, b, c, d] = PREFIX;
    let (high, low) = halves(circuit);
    format!("PROXY TCP6 {a:x}:{b:x}:{c:x}:{d:x}::{high:x}:{low:x} ::1 {low} {port}\r\n")
        .into_bytes()
}

/// The binary header of version 2, with the addresses and ports of [`v1`].
pub fn v2(circuit: u64, port: u16) -> Vec<u8> {
    let [a, b, c, d] = PREFIX;
    let (high, low) = halves(circuit);
    let source = [a, b, c, d, 0, 0, high, low];
    let destination = [0, 0, 0, 0, 0, 0, 0, 1];
    let numbers = source.into_iter().chain(destination).chain([low, port]);
    V2_START.iter().copied().chain(numbers.flat_map(u16::to_be_bytes)).collect()
}

/// The two halves of the low 32 bits of a circuit's number.
fn halves(circuit: u64) -> (u16, u16) {
    let [.., a, b, c, d] = circuit.to_be_bytes();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use ppp::v2::{Addresses, Command, IPv6, Protocol, Version};

    use super::*;

    /// The cases of C tor's own test, and what their halves look like.
    #[test]
    fn version_1_is_written_as_c_tor_writes_it() {
        for (circuit, expected) in [
            (666, "PROXY TCP6 fc00:dead:beef:4dad::0:29a ::1 666 42\r\n"),
            (22, "PROXY TCP6 fc00:dead:beef:4dad::0:16 ::1 22 42\r\n"),
            (0xffff_ffff, "PROXY TCP6 fc00:dead:beef:4dad::ffff:ffff ::1 65535 42\r\n"),
            (0xffff, "PROXY TCP6 fc00:dead:beef:4dad::0:ffff ::1 65535 42\r\n"),
            (0x10000, "PROXY TCP6 fc00:dead:beef:4dad::1:0 ::1 0 42\r\n"),
            (0xaabb_ccdd, "PROXY TCP6 fc00:dead:beef:4dad::aabb:ccdd ::1 52445 42\r\n"),
            (0, "PROXY TCP6 fc00:dead:beef:4dad::0:0 ::1 0 42\r\n"),
        ] {
            assert_eq!(String::from_utf8(v1(circuit, 42)).unwrap(), expected);
        }
    }

    #[test]
    fn only_the_low_32_bits_of_a_circuits_number_are_told() {
        assert_eq!(v1(0x7_0000_0001, 80), v1(1, 80));
        assert_eq!(v2(u64::MAX, 80), v2(0xffff_ffff, 80));
    }

    #[test]
    fn version_2_has_exactly_these_bytes() {
        let expected = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x21\x00\x24\
            \xfc\x00\xde\xad\xbe\xef\x4d\xad\x00\x00\x00\x00\xaa\xbb\xcc\xdd\
            \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\
            \xcc\xdd\x00\x50";
        assert_eq!(v2(0xaabb_ccdd, 80), expected);
    }

    proptest::proptest! {
        #[test]
        fn a_parser_of_others_reads_the_same_addresses_from_both_versions(
            circuit: u64,
            port: u16,
        ) {
            let low = u32::try_from(circuit & 0xffff_ffff).unwrap();
            let [a, b, c, d] = PREFIX;
            let [.., high_half, low_half] = Ipv6Addr::from(u128::from(low)).segments();
            let source = Ipv6Addr::new(a, b, c, d, 0, 0, high_half, low_half);

            let line = v1(circuit, port);
            assert!(line.len() <= 107, "the longest line that the protocol allows");
            let header = ppp::v1::Header::try_from(line.as_slice()).unwrap();
            let ppp::v1::Addresses::Tcp6(read) = header.addresses else {
                panic!("not TCP over IPv6: {header}");
            };
            assert_eq!(
                SocketAddrV6::new(read.source_address, read.source_port, 0, 0),
                SocketAddrV6::new(source, low_half, 0, 0)
            );
            assert_eq!(
                (read.destination_address, read.destination_port),
                (Ipv6Addr::LOCALHOST, port)
            );

            let bytes = v2(circuit, port);
            let header = ppp::v2::Header::try_from(bytes.as_slice()).unwrap();
            assert_eq!(
                (header.version, header.command, header.protocol),
                (Version::Two, Command::Proxy, Protocol::Stream)
            );
            assert_eq!(
                header.addresses,
                Addresses::IPv6(IPv6::new(source, Ipv6Addr::LOCALHOST, low_half, port))
            );
            assert_eq!(header.as_bytes().len(), bytes.len(), "nothing follows the header");
        }
    }
}
