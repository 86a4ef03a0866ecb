//! Choices from the settings that keep a flood within bounds.

/// How many new flows are taken, so that a flood does not take the room of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Half-open flows in all, in percent of the flows that a table is made for.
    pub half_open_percent: u8,
    /// Half-open flows of one service, likewise.
    pub half_open_per_service_percent: u8,
    /// New flows a second that one source may open; 0 = any number.
    pub new_flows_per_source: u32,
    /// New flows a second that one service may get; 0 = any number.
    pub new_flows_per_service: u32,
    /// Workers among which the half-open flows are shared out; 0 = one.
    pub workers: u16,
}

impl Default for Limits {
    /// The settings' defaults, for one worker.
    fn default() -> Self {
        Self {
            half_open_percent: 50,
            half_open_per_service_percent: 25,
            new_flows_per_source: 0,
            new_flows_per_service: 0,
            workers: 1,
        }
    }
}
