//! Single values: numbers in a range, words of a list, addresses, prefixes.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::error::Error;
use crate::raw::{Int, List};

/// A value as a message shows it: text in quotes, numbers bare.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for fmt::Arguments<'_> {
    fn shown(&self) -> String {
        self.to_string()
    }
}

macro_rules! shown_bare {
    ($($type:ty)*) => {$(
        impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
shown_bare!(u16 i64);

/// "`key` is `value`; it must `rule`".
pub(super) fn wrong(key: &str, value: impl Shown, rule: &str) -> Error {
    Error::Value {
        key: key.to_owned(),
        value: value.shown(),
        rule: rule.to_owned(),
    }
}

/// A number in `range`, or the default.
pub(super) fn number<T>(
    key: &str,
    typed: Option<Int>,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, Error>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    let Some(Int(value)) = typed else {
        return Ok(default);
    };
    T::try_from(value)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            wrong(key, value, &format!("be {first} to {last}"))
        })
}

/// One of these words, or the first of them.
pub(super) fn choice<T: Copy>(
    key: &str,
    typed: Option<&str>,
    words: &[(&str, T)],
) -> Result<T, Error> {
    let Some(text) = typed else {
        return Ok(words[0].1);
    };
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| {
            let list: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            let (last, others) = list
                .split_last()
                .map_or(("", &[][..]), |(last, others)| (last, others));
            wrong(key, text, &format!("be {} or {last}", others.join(", ")))
        })
}

/// An address that one host can have.
pub(super) fn unicast_address(key: &str, text: &str) -> Result<IpAddr, Error> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| wrong(key, text, "be an IPv4 or IPv6 address"))?;
    match why_not_unicast(address) {
        None => Ok(address),
        Some(why) => Err(wrong(
            key,
            text,
            &format!("be a unicast address, not {why}"),
        )),
    }
}

/// What keeps the address from being a host's own, if anything does.
pub(super) fn why_not_unicast(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified one");
    }
    if address.is_multicast() {
        return Some("a multicast one");
    }
    if address.is_loopback() {
        return Some("a loopback one");
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast one"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("one of 0.0.0.0/8"),
        // RFC 4291, section 2.5.5.2: stands for an IPv4 address, never on the wire.
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4-mapped one"),
        _ => None,
    }
}

/// An address that is valid on one link only, so that each link may have it (RFC 3927, RFC 4291).
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Distinct unicast addresses.
pub(super) fn unicast_addresses(key: &str, list: &List<String>) -> Result<Vec<IpAddr>, Error> {
    distinct(key, list, unicast_address)
}

/// Distinct addresses of one machine: unicast, or loopback as a node also has (it is never served).
pub(super) fn own_addresses(key: &str, list: &List<String>) -> Result<Vec<IpAddr>, Error> {
    distinct(key, list, |key, text| match text.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => Ok(address),
        _ => unicast_address(key, text),
    })
}

fn distinct(
    key: &str,
    list: &List<String>,
    read: impl Fn(&str, &str) -> Result<IpAddr, Error>,
) -> Result<Vec<IpAddr>, Error> {
    let mut addresses = Vec::new();
    for (i, text) in list.0.iter().enumerate() {
        let key = format!("{key}[{i}]");
        let address = read(&key, text)?;
        if addresses.contains(&address) {
            return Err(wrong(
                &key,
                text.as_str(),
                "be an address that is not in the list yet",
            ));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// An address with a prefix length; host bits may be set.
pub(super) fn address_with_length(key: &str, text: &str) -> Result<IpNet, Error> {
    let split = || {
        let (address, length) = text.split_once('/')?;
        // `u8::from_str` would take "+8" and "08".
        let canonical = length.bytes().all(|byte| byte.is_ascii_digit())
            && (length == "0" || !length.starts_with('0'));
        let length = length.parse().ok().filter(|_| canonical)?;
        IpNet::new(address.parse().ok()?, length).ok()
    };
    split().ok_or_else(|| {
        let rule = "be an address and a prefix length such as 192.0.2.0/24 or 2001:db8::/64";
        wrong(key, text, rule)
    })
}

/// A prefix: host bits must be zero.
pub(super) fn cidr(key: &str, text: &str) -> Result<IpNet, Error> {
    let net = address_with_length(key, text)?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        let rule = format!("have its host bits zero: {}", net.trunc());
        Err(wrong(key, text, &rule))
    }
}

/// A list of prefixes, empty if absent.
pub(super) fn cidrs(key: &str, list: Option<&List<String>>) -> Result<Vec<IpNet>, Error> {
    list.iter()
        .flat_map(|list| &list.0)
        .enumerate()
        .map(|(i, text)| cidr(&format!("{key}[{i}]"), text))
        .collect()
}
