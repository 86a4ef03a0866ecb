//! What was typed: the file's tables as they stand there, with nothing but their types checked.
//!
//! Every key is optional here, except those without which a list entry means nothing. An
//! environment variable is always text, so numbers, booleans and lists can also be read from text;
//! a list is then separated by commas.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `[region]`.
    pub region: Region,
    /// `[gateway]`.
    pub gateway: Gateway,
    /// `[[links]]`.
    pub links: Vec<Link>,
    /// `[[routes]]`.
    pub routes: Vec<Route>,
    /// `[workers]`.
    pub workers: Workers,
    /// `[limits]`.
    pub limits: Limits,
    /// `[dataplane]`.
    pub dataplane: DataPlane,
    /// `[source]`.
    pub source: Source,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[status]`.
    pub status: Status,
    /// `[log]`.
    pub log: Log,
    /// `[dns]`.
    pub dns: Dns,
}

/// `[region]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Region {
    pub path: Option<String>,
    pub group: Option<String>,
    pub huge_pages: Option<String>,
    pub flows: Option<Int>,
    pub flows_v6: Option<Int>,
    pub packet_memory_mb: Option<Int>,
}

/// `[gateway]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Gateway {
    pub mode: Option<String>,
    pub node_name: Option<String>,
    pub zone: Option<String>,
    pub addresses: Option<List<String>>,
    pub nodeport_addresses: Option<List<String>>,
    pub nodeport_range: Option<String>,
    pub cluster_cidrs: Option<List<String>>,
    pub service_cidrs: Option<List<String>>,
    pub masquerade_all: Option<Flag>,
    pub external_ips: Option<Flag>,
    pub snat_addresses: Option<List<String>>,
    pub backend_choice: Option<String>,
    pub maglev_seed: Option<Int>,
    pub service_proxy_name: Option<String>,
}

/// One `[[links]]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Link {
    pub name: String,
    pub device: String,
    #[serde(default)]
    pub addresses: Option<List<String>>,
    #[serde(default)]
    pub mac: Option<String>,
    #[serde(default)]
    pub vlan: Option<Int>,
    #[serde(default)]
    pub mtu: Option<Int>,
    #[serde(default)]
    pub mss_clamp: Option<String>,
}

/// One `[[routes]]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Route {
    pub to: String,
    #[serde(default)]
    pub via: Option<String>,
    #[serde(default)]
    pub link: Option<String>,
}

/// `[workers]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Workers {
    pub cores: Option<List<Int>>,
    pub count: Option<Int>,
    pub idle_sleep_us: Option<Int>,
}

/// `[limits]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Limits {
    pub half_open_percent: Option<Int>,
    pub half_open_per_service_percent: Option<Int>,
    pub new_flows_per_source: Option<Int>,
    pub new_flows_per_service: Option<Int>,
}

/// `[dataplane]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct DataPlane {
    pub seccomp: Option<String>,
}

/// `[source]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Source {
    pub kind: Option<String>,
    pub path: Option<String>,
    pub kubeconfig: Option<String>,
}

/// `[metrics]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Metrics {
    pub listen: Option<String>,
    pub max_series: Option<Int>,
}

/// `[status]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Status {
    pub page: Option<String>,
}

/// `[log]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Log {
    pub format: Option<String>,
    pub level: Option<String>,
}

/// `[dns]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Dns {
    pub listen: Option<List<String>>,
    pub cluster_domain: Option<String>,
    pub ttl: Option<Int>,
    pub prefer: Option<String>,
}

/// A whole number, or text that is one. Fractions and booleans are not rounded into numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int(pub i64);

/// A boolean, or the text `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(pub bool);

/// A list, or text with its items separated by commas; empty text is the empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntVisitor;
        impl Visitor<'_> for IntVisitor {
            type Value = Int;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Int, E> {
                Ok(Int(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Int, E> {
                i64::try_from(value)
                    .map(Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Int, E> {
                value
                    .trim()
                    .parse()
                    .map(Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(IntVisitor)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("true or false")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Flag, E> {
                value
                    .trim()
                    .parse()
                    .map(Flag)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(List(list))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<List<T>, E> {
                if value.trim().is_empty() {
                    return Ok(List(Vec::new()));
                }
                value
                    .split(',')
                    .map(|item| T::deserialize(item.trim().into_deserializer()))
                    .collect::<Result<_, E>>()
                    .map(List)
            }
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}
