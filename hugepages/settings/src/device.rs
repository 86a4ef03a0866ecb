//! What a link is made of.

use std::fmt;
use std::str::FromStr;

/// The device behind a link, as `links.device` names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Device {
    /// `af_packet:eth1`: a kernel interface through AF_PACKET sockets.
    AfPacket(String),
    /// `af_xdp:eth1`: a kernel interface through AF_XDP sockets.
    AfXdp(String),
    /// `pci:0000:00:05.0`: a PCI device bound to vfio-pci (or uio), by its full address.
    Pci(String),
    /// `vdev:net_memif0,role=client`: any virtual device, by DPDK's own arguments.
    Vdev(String),
}

impl Device {
    /// Addresses of the PCI devices behind it: its own, or those that a bonding device (`vdev:net_bonding…`) has as members
    /// (`slave=`, or `member=` in later versions of DPDK).
    #[must_use]
    pub fn pci_addresses(&self) -> Vec<String> {
        match self {
            Self::Pci(address) => vec![address.clone()],
            Self::Vdev(arguments) if arguments.starts_with("net_bonding") => {
                let words = arguments.split(',');
                let members = words.filter_map(|word| {
                    let member = word
                        .strip_prefix("slave=")
                        .or(word.strip_prefix("member="))?;
                    pci_address(member).ok()
                });
                members.collect()
            }
            Self::AfPacket(_) | Self::AfXdp(_) | Self::Vdev(_) => Vec::new(),
        }
    }
}

impl FromStr for Device {
    /// The rule that the text breaks, to be read after "must".
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').ok_or(FORMS)?;
        match kind {
            "af_packet" => interface(rest).map(Self::AfPacket),
            "af_xdp" => interface(rest).map(Self::AfXdp),
            "pci" => pci_address(rest).map(Self::Pci),
            "vdev" => devargs(rest).map(Self::Vdev),
            _ => Err(FORMS),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfPacket(interface) => write!(formatter, "af_packet:{interface}"),
            Self::AfXdp(interface) => write!(formatter, "af_xdp:{interface}"),
            Self::Pci(address) => write!(formatter, "pci:{address}"),
            Self::Vdev(arguments) => write!(formatter, "vdev:{arguments}"),
        }
    }
}

const FORMS: &str = "be af_packet:INTERFACE, af_xdp:INTERFACE, pci:DOMAIN:BUS:DEVICE.FUNCTION \
                     or vdev:DEVARGS";

/// Linux refuses longer names (IFNAMSIZ), slashes and white space; a comma would end the argument
/// in DPDK's own syntax.
fn interface(name: &str) -> Result<String, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"/,:=".contains(&byte);
    if (1..=15).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".." {
        Ok(name.to_owned())
    } else {
        Err("name a network interface of 1 to 15 characters without space, '/', ',', ':' or '='")
    }
}

/// `dddd:bb:dd.f` in hexadecimal, function 0–7; kept in lower case as sysfs writes it.
fn pci_address(text: &str) -> Result<String, &'static str> {
    let form = "XXXX:XX:XX.X";
    let fits = text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, want)| match want {
                b'X' => byte.is_ascii_hexdigit(),
                separator => byte == separator,
            });
    let device = text
        .get(8..10)
        .and_then(|hex| u8::from_str_radix(hex, 16).ok());
    if fits && device.is_some_and(|device| device < 32) && text.as_bytes()[11] <= b'7' {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("hold a full PCI address such as pci:0000:00:05.0")
    }
}

fn devargs(text: &str) -> Result<String, &'static str> {
    let (driver, _) = text.split_once(',').unwrap_or((text, ""));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !driver.is_empty()
        && driver.bytes().all(allowed)
        && text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        Ok(text.to_owned())
    } else {
        Err("hold DPDK device arguments without spaces such as vdev:net_memif0,role=client")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_parses_and_prints_back() {
        for text in [
            "af_packet:eth1",
            "af_xdp:veth-gw0",
            "pci:0000:00:05.0",
            "pci:0001:af:1f.7",
            "vdev:net_memif0,role=client,id=0,socket=/run/memif.sock",
            "vdev:net_null0",
        ] {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
        }
    }

    #[test]
    fn pci_addresses_are_kept_in_lower_case() {
        let device: Device = "pci:0000:AF:1F.7".parse().unwrap();
        assert_eq!(device, Device::Pci("0000:af:1f.7".to_owned()));
    }

    #[test]
    fn members_of_a_bond_are_pci_devices_of_the_link() {
        let addresses = |text: &str| text.parse::<Device>().unwrap().pci_addresses();
        assert_eq!(addresses("pci:0000:00:05.0"), ["0000:00:05.0"]);
        let bond = "vdev:net_bonding0,mode=1,slave=0000:00:0A.0,member=0000:00:0b.0";
        assert_eq!(addresses(bond), ["0000:00:0a.0", "0000:00:0b.0"]);
        assert!(addresses("vdev:net_memif0,slave=0000:00:05.0").is_empty());
        assert!(addresses("vdev:net_bonding0,mode=1,slave=net_memif0").is_empty());
        assert!(addresses("af_packet:eth1").is_empty());
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "eth1",
            "tap:eth1",
            "af_packet:",
            "af_packet:a/b",
            "af_packet:sixteencharacter",
            "af_packet:eth1,qpairs=4",
            "af_xdp:..",
            "pci:00:05.0",
            "pci:0000:00:05.8",
            "pci:0000:00:20.0",
            "pci:0000:00:0g.0",
            "pci:0000-00-05.0",
            "vdev:",
            "vdev:,a=b",
            "vdev:net null",
            "vdev:net_tap0,iface=a b",
            "pci:0000:0é:5.0",
        ] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
