//! Services that are listed and not proxied: the region knows nothing of them, the control plane does.

use std::io::Write;

use serde_json::Value;
use settings::Settings;

use crate::controlplane;
use crate::table::Table;

/// What the control plane says: a list of `service`, `type` and `name`. `None` if it does not run or
/// does not answer.
pub(crate) fn ask(settings: &Settings) -> Option<Vec<Value>> {
    let body = controlplane::get(settings, "/unproxied")?;
    match serde_json::from_str(&body).ok()? {
        Value::Array(found) => Some(found),
        _ => None,
    }
}

/// Shows them below what is proxied.
pub(crate) fn show(found: &[Value], out: &mut dyn Write) -> std::io::Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["NOT PROXIED", "TYPE", "CLIENTS GO TO"]);
    for entry in found {
        let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        let leads_to = match entry["name"].as_str() {
            Some(name) => format!("{name} (an alias in DNS)"),
            None => "its pods (their addresses are in DNS)".to_owned(),
        };
        table.push([text("service"), text("type"), leads_to]);
    }
    table.flush(out)
}
