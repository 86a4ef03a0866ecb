//! What an object must satisfy, whoever made it.

use std::net::IpAddr;

use crate::object::{
    Action, BackendSet, Frontend, NO_KEY, Object, Prefix, Protocol, Ranges, Route, Service,
    ranges_key, service_key, set_key,
};
use crate::record::{MAX_MEMBERS, MAX_NAME, MAX_PORT_NAME, RecordError};

/// Checks an object against the rules of [`crate::object`] and the limits of the record format.
///
/// # Errors
///
/// The first rule that it breaks.
pub fn validate(object: &Object) -> Result<(), RecordError> {
    match object {
        Object::Service(service) => validate_service(service),
        Object::BackendSet(set) => validate_set(set),
        Object::Ranges(ranges) => validate_ranges(ranges),
        Object::Frontend(frontend) => validate_frontend(frontend),
        Object::Network(network) => validate_prefix(network.prefix),
        Object::Route(route) => validate_route(route),
    }
}

fn validate_service(service: &Service) -> Result<(), RecordError> {
    if service.name.is_empty()
        || service.name.len() > MAX_NAME
        || service.port_name.len() > MAX_PORT_NAME
    {
        return Err(RecordError::Text);
    }
    if service.protocol == Protocol::Any {
        return Err(RecordError::Protocol);
    }
    let key = service_key(&service.name, &service.port_name, service.protocol);
    same_key(service.key, key)
}

fn validate_set(set: &BackendSet) -> Result<(), RecordError> {
    if set.members.is_empty() || set.members.len() > MAX_MEMBERS {
        return Err(RecordError::Count);
    }
    if set.members.iter().any(|member| member.port == 0) {
        return Err(RecordError::Port);
    }
    if !set.members.is_sorted_by(|a, b| a < b) {
        return Err(RecordError::NotCanonical);
    }
    same_key(set.key, set_key(&set.members))
}

fn validate_ranges(ranges: &Ranges) -> Result<(), RecordError> {
    if ranges.prefixes.len() > MAX_MEMBERS {
        return Err(RecordError::Count);
    }
    ranges
        .prefixes
        .iter()
        .try_for_each(|prefix| validate_prefix(*prefix))?;
    if !ranges.prefixes.is_sorted_by(|a, b| a < b) {
        return Err(RecordError::NotCanonical);
    }
    same_key(ranges.key, ranges_key(&ranges.prefixes))
}

fn validate_frontend(frontend: &Frontend) -> Result<(), RecordError> {
    let any = frontend.protocol == Protocol::Any;
    if any != (frontend.port == 0) {
        return Err(RecordError::Port);
    }
    if frontend.service == NO_KEY && !any {
        return Err(RecordError::Key);
    }
    let no_set = |action: &Action| matches!(action, Action::Translate { set: NO_KEY, .. });
    if frontend.actions.iter().any(no_set) {
        return Err(RecordError::Key);
    }
    Ok(())
}

fn validate_route(route: &Route) -> Result<(), RecordError> {
    validate_prefix(route.to)?;
    if route.via.is_ipv4() == route.to.address.is_ipv4() {
        Ok(())
    } else {
        Err(RecordError::NextHop)
    }
}

fn validate_prefix(prefix: Prefix) -> Result<(), RecordError> {
    let (bits, width) = match prefix.address {
        // Left-aligned, so that one shift serves both families.
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    if prefix.length > width {
        return Err(RecordError::PrefixLength);
    }
    let host = u128::MAX.checked_shr(u32::from(prefix.length)).unwrap_or(0);
    if bits & host == 0 {
        Ok(())
    } else {
        Err(RecordError::HostBits)
    }
}

fn same_key(key: u64, content: u64) -> Result<(), RecordError> {
    if key == content {
        Ok(())
    } else {
        Err(RecordError::Key)
    }
}
