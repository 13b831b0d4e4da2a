//! Which addresses are nobody's business: those of this machine, of networks that are not public, and those that stand
//! for no single machine. By the registries of special-purpose addresses (RFC 6890 and its successors) as of 2026.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, where it is not one machine of the public internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// This machine.
    Loopback,
    /// A private network: 10.0.0.0/8 and the like, unique local addresses.
    Private,
    /// Between a carrier and its customers, 100.64.0.0/10.
    Shared,
    /// This network segment.
    LinkLocal,
    /// A cloud's service that hands out credentials to whoever asks.
    Metadata,
    /// No address yet: `0.0.0.0` reaches this machine on many systems.
    Unspecified,
    /// Many machines.
    Multicast,
    /// For examples in documents.
    Documentation,
    /// Set aside for something else.
    Reserved,
}

impl AddressClass {
    /// Whether an operator may mean it by a name: a machine of its own.
    pub(super) fn is_own_network(self) -> bool {
        matches!(self, Self::Loopback | Self::Private | Self::Shared)
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "an address of this machine itself",
            Self::Private => "an address of a private network",
            Self::Shared => "an address between a carrier and its customers",
            Self::LinkLocal => "an address of the local network segment",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Unspecified => "no machine's address",
            Self::Multicast => "an address of many machines",
            Self::Documentation => "an address for examples",
            Self::Reserved => "an address set aside for other purposes",
        })
    }
}

/// What an address is; none: a machine of the public internet, as far as its number tells.
pub fn address_class(address: IpAddr) -> Option<AddressClass> {
    match address {
        IpAddr::V4(address) => class_of_v4(address),
        IpAddr::V6(address) => class_of_v6(address),
    }
}

fn class_of_v4(address: Ipv4Addr) -> Option<AddressClass> {
    use AddressClass as Class;
    Some(match address.octets() {
        // The last but one is Azure's: public by its number, and there for each virtual machine alone.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [168, 63, 129, 16]
        | [100, 100, 100, 200] => Class::Metadata,
        [0, ..] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [169, 254, ..] => Class::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Documentation,
        // Protocol assignments, relays of 6to4 (which end elsewhere), benchmarks.
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => Class::Reserved,
        [224..=239, ..] => Class::Multicast,
        [240..=255, ..] => Class::Reserved,
        _ => return None,
    })
}

fn class_of_v6(address: Ipv6Addr) -> Option<AddressClass> {
    use AddressClass as Class;
    if let Some(inner) = inner_v4(address) {
        return class_of_v4(inner);
    }
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // AWS, Google Cloud, Scaleway.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254 | 0x0023]
        | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254]
        | [0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042] => Class::Metadata,
        [0xfc00..=0xfdff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xfec0..=0xfeff, ..] => Class::Private,
        [0xff00..=0xffff, ..] => Class::Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Documentation,
        // Protocol assignments, Teredo among them; 6to4: both end at an address that this one hides.
        [0x2001, 0..=0x01ff, ..] | [0x2002, ..] => Class::Reserved,
        // All that was ever given out to machines.
        [0x2000..=0x3fff, ..] => return None,
        _ => Class::Reserved,
    })
}

/// The address that is meant where an IPv4 address is written as one of IPv6: mapped, or for a translator (NAT64).
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., high, low] = address.segments();
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> Option<AddressClass> {
        address_class(text.parse().expect("an address"))
    }

    use AddressClass::*;

    const NOT_PUBLIC: &[(&str, AddressClass)] = &[
        ("0.0.0.0", Unspecified),
        ("0.255.255.255", Unspecified),
        ("10.0.0.0", Private),
        ("10.255.255.255", Private),
        ("100.64.0.0", Shared),
        ("100.127.255.255", Shared),
        ("100.100.100.200", Metadata),
        ("127.0.0.1", Loopback),
        ("127.255.255.255", Loopback),
        ("169.254.0.1", LinkLocal),
        ("169.254.169.254", Metadata),
        ("169.254.170.2", Metadata),
        ("169.254.170.23", Metadata),
        ("168.63.129.16", Metadata),
        ("172.16.0.0", Private),
        ("172.31.255.255", Private),
        ("192.0.0.8", Reserved),
        ("192.0.2.1", Documentation),
        ("192.88.99.1", Reserved),
        ("192.168.0.1", Private),
        ("198.18.0.1", Reserved),
        ("198.19.255.255", Reserved),
        ("198.51.100.1", Documentation),
        ("203.0.113.1", Documentation),
        ("224.0.0.1", Multicast),
        ("239.255.255.255", Multicast),
        ("240.0.0.1", Reserved),
        ("255.255.255.255", Reserved),
        ("::", Unspecified),
        ("::1", Loopback),
        ("::127.0.0.1", Reserved),
        ("::ffff:127.0.0.1", Loopback),
        ("::ffff:10.0.0.1", Private),
        ("::ffff:169.254.169.254", Metadata),
        ("64:ff9b::127.0.0.1", Loopback),
        ("64:ff9b::10.0.0.1", Private),
        ("64:ff9b::169.254.169.254", Metadata),
        ("64:ff9b:1::1", Reserved),
        ("100::1", Reserved),
        ("2001::1", Reserved),
        ("2001:db8::1", Documentation),
        ("2002:7f00:1::1", Reserved),
        ("3fff::1", Documentation),
        ("fc00::1", Private),
        ("fdff::1", Private),
        ("fd00:ec2::254", Metadata),
        ("fd20:ce::254", Metadata),
        ("fd00:ec2::23", Metadata),
        ("fd00:42::42", Metadata),
        ("fe80::1", LinkLocal),
        ("febf::1", LinkLocal),
        ("fec0::1", Private),
        ("ff02::1", Multicast),
        ("4000::1", Reserved),
        ("5f00::1", Reserved),
    ];

    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
    ];

    #[test]
    fn the_edges_of_what_is_not_public() {
        for (address, expected) in NOT_PUBLIC {
            assert_eq!(class(address), Some(*expected), "{address}");
        }
        for public in PUBLIC {
            assert_eq!(class(public), None, "{public}");
        }
    }

    proptest! {
        /// What the standard library knows to be no public address, we know too.
        #[test]
        fn nothing_that_the_library_knows_is_missed(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            let known = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            let ours = address_class(IpAddr::V4(address));
            prop_assert!(!known || ours.is_some(), "{}", address);
            // However it is written, it is the same.
            prop_assert_eq!(address_class(IpAddr::V6(address.to_ipv6_mapped())), ours);
        }

        #[test]
        fn nor_of_the_longer_ones(bits in any::<u128>(), prefix in prop::sample::select(vec![
            0_u128, 0xfc << 120, 0xfd << 120, 0xfe80 << 112, 0xff << 120, 0x2001_0db8 << 96, 0x2000 << 112,
        ])) {
            let address = Ipv6Addr::from((bits >> 32) | prefix);
            let known = address.is_loopback() || address.is_unspecified() || address.is_multicast()
                || address.is_unique_local() || address.is_unicast_link_local();
            prop_assert!(!known || address_class(IpAddr::V6(address)).is_some(), "{}", address);
        }
    }
}
