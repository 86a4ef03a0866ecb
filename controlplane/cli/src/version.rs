//! `portgate version`.

use std::io::Write;

use serde_json::json;

use crate::failure::Failure;

/// Shows the version of this program and of what it shares with the others.
pub(crate) fn run(json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let (region, record) = (hugepages::header::VERSION, hugepages::record::VERSION);
    let flows = hugepages::layout::FLOW_LAYOUT;
    if json {
        let shown = json!({
            "version": version,
            "region_version": region,
            "record_version": record,
            "flow_layout": flows,
        });
        writeln!(out, "{shown}")?;
    } else {
        writeln!(out, "portgate {version}")?;
        writeln!(
            out,
            "region version {region}, record version {record}, flow layout {flows}"
        )?;
    }
    Ok(())
}
