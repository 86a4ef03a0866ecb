//! Which flow, and which size, each frame is of: functions of the frame's number, so that whoever knows
//! the options knows them without being told.

use std::str::FromStr;

use crate::bench::Random;

/// How frames are dealt to flows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// To each in turn.
    Turn,
    /// To each as likely as to any other.
    Uniform,
    /// To flow number n (from 1) in proportion to 1 / n^exponent.
    Zipf(f64),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, exponent) = text.split_once(':').unwrap_or((text, "1"));
        match (name, exponent.parse::<f64>()) {
            ("turn", _) if text == name => Ok(Self::Turn),
            ("uniform", _) if text == name => Ok(Self::Uniform),
            ("zipf", Ok(exponent)) if exponent > 0.0 && exponent <= 10.0 => {
                Ok(Self::Zipf(exponent))
            }
            _ => Err("must be turn, uniform, zipf or zipf:EXPONENT with 0 < EXPONENT <= 10".into()),
        }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Turn => formatter.write_str("turn"),
            Self::Uniform => formatter.write_str("uniform"),
            Self::Zipf(exponent) => write!(formatter, "zipf:{exponent}"),
        }
    }
}

/// Deals frames to flows.
#[derive(Debug, Clone)]
pub struct Dealer {
    flows: u32,
    seed: u64,
    choice: Choice,
    zipf: Zipf,
}

impl Dealer {
    /// To this many flows, at least one.
    #[must_use]
    pub fn new(flows: u32, choice: Choice, seed: u64) -> Self {
        let exponent = match choice {
            Choice::Zipf(exponent) => exponent,
            _ => 1.0,
        };
        Self {
            flows: flows.max(1),
            seed,
            choice,
            zipf: Zipf::new(flows.max(1), exponent),
        }
    }

    /// The flow of frame number `sequence`.
    #[must_use]
    pub fn flow(&self, sequence: u64) -> u32 {
        match self.choice {
            Choice::Turn => (sequence % u64::from(self.flows)) as u32,
            Choice::Uniform => Random::new(self.seed, sequence).below(self.flows as usize) as u32,
            Choice::Zipf(_) => self.zipf.rank(&mut Random::new(self.seed, sequence)) - 1,
        }
    }

    /// Flows.
    #[must_use]
    pub fn flows(&self) -> u32 {
        self.flows
    }
}

/// Zipf's distribution by rejection-inversion (Hörmann and Derflinger 1996, ACM TOMACS 6.3): no
/// tables, less than 1.2 tries a number.
#[derive(Debug, Clone)]
struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral of x^-exponent at 1.5, less the first rank's weight; and at count + 0.5.
    first: f64,
    last: f64,
    /// Ranks this close above the inverse are taken without looking.
    shift: f64,
}

impl Zipf {
    fn new(count: u32, exponent: f64) -> Self {
        let mut zipf = Self {
            count: f64::from(count),
            exponent,
            first: 0.0,
            last: 0.0,
            shift: 0.0,
        };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(zipf.count + 0.5);
        zipf.shift = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    fn rank(&self, random: &mut Random) -> u32 {
        loop {
            // 53 bits: what a double holds.
            let uniform = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
            let area = self.last + uniform * (self.first - self.last);
            let x = self.inverse(area);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.shift || area >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u32;
            }
        }
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    fn is_harmonic(&self) -> bool {
        (self.exponent - 1.0).abs() < 1e-9
    }

    fn integral(&self, x: f64) -> f64 {
        if self.is_harmonic() {
            return x.ln();
        }
        let power = 1.0 - self.exponent;
        (power * x.ln()).exp_m1() / power
    }

    fn inverse(&self, area: f64) -> f64 {
        if self.is_harmonic() {
            return area.exp();
        }
        let power = 1.0 - self.exponent;
        // Rounding may lead a little outside of the function's range.
        ((area * power).max(-1.0).ln_1p() / power).exp()
    }
}

/// Frame sizes in proportion: `64`, `imix`, `64:7,594:4,1518:1`. Bytes with the frame check
/// sequence, as RFC 2544 (section 9) counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Size and weight.
    parts: Vec<(u16, u32)>,
    total: u32,
    seed: u64,
}

impl Sizes {
    /// One size.
    #[must_use]
    pub fn one(size: u16) -> Self {
        Self {
            parts: vec![(size, 1)],
            total: 1,
            seed: 0,
        }
    }

    /// The same proportions, drawn by this seed.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed.rotate_left(32);
        self
    }

    /// The sizes.
    #[must_use]
    pub fn all(&self) -> Vec<u16> {
        self.parts.iter().map(|(size, _)| *size).collect()
    }

    /// Which of [`Sizes::all`] frame number `sequence` has.
    #[must_use]
    pub fn index(&self, sequence: u64) -> usize {
        if self.parts.len() == 1 {
            return 0;
        }
        let mut left = Random::new(self.seed, sequence).below(self.total as usize) as u32;
        let found = self.parts.iter().position(|(_, weight)| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        found.unwrap_or(0)
    }

    /// Mean size in bytes.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let sum: f64 = self
            .parts
            .iter()
            .map(|(size, weight)| f64::from(*size) * f64::from(*weight))
            .sum();
        sum / f64::from(self.total)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The usual simple mix of the Internet: 7, 4 and 1 of twelve frames.
        let text = if text == "imix" {
            "64:7,594:4,1518:1"
        } else {
            text
        };
        let rule =
            "must be a number of bytes with FCS, 64 to 9618, or SIZE:WEIGHT,SIZE:WEIGHT,… or imix";
        let part = |part: &str| {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            let (size, weight) = (size.parse().ok()?, weight.parse().ok()?);
            ((64..=9618).contains(&size) && (1..=1_000_000).contains(&weight))
                .then_some((size, weight))
        };
        let parts: Option<Vec<(u16, u32)>> = text.split(',').map(part).collect();
        let parts = parts.filter(|parts| parts.len() <= 64).ok_or(rule)?;
        let total = parts.iter().map(|(_, weight)| weight).sum();
        Ok(Self {
            parts,
            total,
            seed: 0,
        })
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [(size, _)] = self.parts.as_slice() {
            return write!(formatter, "{size}");
        }
        let parts: Vec<String> = self
            .parts
            .iter()
            .map(|(size, weight)| format!("{size}:{weight}"))
            .collect();
        formatter.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_gives_each_rank_its_share() {
        for exponent in [0.5, 1.0, 1.2, 2.0] {
            let flows = 100;
            let dealer = Dealer::new(flows, Choice::Zipf(exponent), 5);
            let mut seen = vec![0_u32; flows as usize];
            let frames = 200_000;
            for sequence in 0..frames {
                seen[dealer.flow(sequence) as usize] += 1;
            }
            let weight = |rank: usize| ((rank + 1) as f64).powf(-exponent);
            let all: f64 = (0..flows as usize).map(weight).sum();
            for rank in [0, 1, 2, 9, 50, 99] {
                let expected = frames as f64 * weight(rank) / all;
                let got = f64::from(seen[rank]);
                // Five standard deviations.
                assert!(
                    (got - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                    "exponent {exponent}, rank {rank}: {got} of {expected}"
                );
            }
        }
    }

    #[test]
    fn turns_and_draws_reach_every_flow_and_no_other() {
        for choice in [Choice::Turn, Choice::Uniform, Choice::Zipf(0.2)] {
            let dealer = Dealer::new(7, choice, 1);
            let mut seen = [false; 7];
            for sequence in 0..1000 {
                seen[dealer.flow(sequence) as usize] = true;
            }
            assert_eq!(seen, [true; 7], "{choice}");
        }
        assert_eq!(Dealer::new(1, Choice::Zipf(1.0), 1).flow(99), 0);
    }

    #[test]
    fn sizes_come_in_their_proportions() {
        let imix: Sizes = "imix".parse().unwrap();
        assert_eq!(imix.all(), [64, 594, 1518]);
        let mut seen = [0; 3];
        for sequence in 0..12_000 {
            seen[imix.index(sequence)] += 1;
        }
        for (got, expected) in seen.into_iter().zip([7000, 4000, 1000]) {
            assert!((expected - 300..expected + 300).contains(&got), "{seen:?}");
        }
        assert_eq!(imix.mean().round(), 362.0);
    }

    #[test]
    fn what_is_no_size_or_choice_is_refused() {
        for text in ["", "63", "9619", "64:0", "64:x", "64,", "IMIX"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
        for text in ["", "zip", "zipf:", "zipf:0", "zipf:11", "zipf:x", "turn:1"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
        assert_eq!("zipf:1.5".parse(), Ok(Choice::Zipf(1.5)));
    }
}
