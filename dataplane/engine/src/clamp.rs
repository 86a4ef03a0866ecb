//! Lowering the segment size that connections agree upon to what their links carry (`links.mss_clamp`): only SYN and
//! SYN-ACK are looked at.

use packet::parse::Parsed;
use packet::{Buffer, mss};

use crate::pipeline::Pipeline;
use crate::topology::MssClamp;

impl<B: Buffer> Pipeline<B> {
    /// Clamps a segment with SYN that came in by link `input` and leaves by link `output`: both links' own
    /// choices hold.
    #[cold]
    pub(crate) fn clamp_mss(&self, input: usize, output: usize, bytes: &mut [u8], parsed: &Parsed) {
        let links = &self.shared.topology.links;
        let (Some(input), Some(output)) = (links.get(input), links.get(output)) else {
            return;
        };
        let most = |clamp| match clamp {
            MssClamp::Off => None,
            MssClamp::Auto => Some(mss::largest(parsed.network, input.mtu.min(output.mtu))),
            MssClamp::Size(size) => Some(size),
        };
        let both = [input.mss_clamp, output.mss_clamp];
        if let Some(most) = both.into_iter().filter_map(most).min() {
            mss::clamp(bytes, parsed, most);
        }
    }
}
