//! A gateway and the inputs that it has served.
//!
//! To build a gateway takes longer than to run an input, so that one serves many. When an input fails, all
//! inputs of its gateway are written beside libFuzzer's own report as one file, which [`Chain::run`]
//! takes as well. A thread has one chain at a time.

use std::cell::RefCell;

use super::gateway::Gateway;

thread_local! {
    /// What the present gateway was given. Beside the chain, which is borrowed while an input runs.
    static SERVED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// How a file with several inputs begins; then each with its length, four bytes, big-endian.
const MAGIC: &[u8; 8] = b"\xffchain1\n";

/// Second after which a gateway serves no more inputs, far from the end of the clock.
const LATE: u32 = 1 << 31;

/// See the module.
#[derive(Debug)]
pub struct Chain {
    gateway: Option<Gateway>,
    served: usize,
    /// Inputs that a gateway serves.
    life: usize,
    make: fn() -> Gateway,
    serve: fn(&mut Gateway, &[u8]),
}

impl Chain {
    /// Gateways made by `make` serve `life` inputs each by `serve`.
    #[must_use]
    pub const fn new(life: usize, make: fn() -> Gateway, serve: fn(&mut Gateway, &[u8])) -> Self {
        Self {
            gateway: None,
            served: 0,
            life,
            make,
            serve,
        }
    }

    /// Runs an input, or a file of several.
    pub fn run(&mut self, bytes: &[u8]) {
        let Some(mut chain) = bytes.strip_prefix(MAGIC) else {
            return self.one(bytes);
        };
        self.begin_anew();
        while let Some((length, rest)) = chain.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let (input, rest) = rest.split_at(length.min(rest.len()));
            self.one(input);
            chain = rest;
        }
        self.begin_anew();
    }

    fn one(&mut self, bytes: &[u8]) {
        let is_late = |gateway: &Gateway| gateway.second > LATE;
        if self.served >= self.life || self.gateway.as_ref().is_some_and(is_late) {
            self.begin_anew();
        }
        self.served += 1;
        SERVED.with_borrow_mut(|served| served.push(bytes.to_vec()));
        // Taken out while it runs: what a panic leaves behind is not used again.
        let mut gateway = self.gateway.take().unwrap_or_else(self.make);
        (self.serve)(&mut gateway, bytes);
        self.gateway = Some(gateway);
    }

    fn begin_anew(&mut self) {
        self.gateway = None;
        self.served = 0;
        SERVED.take();
    }
}

/// The inputs of this thread's gateway as one file: to be kept when the last one fails.
#[must_use]
pub fn file() -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    SERVED.with_borrow(|served| {
        for input in served {
            file.extend((input.len() as u32).to_be_bytes());
            file.extend(input);
        }
    });
    file
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_file_of_several_inputs_serves_them_all() {
        static SEEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
        let serve = |_: &mut Gateway, bytes: &[u8]| SEEN.lock().unwrap().push(bytes[0]);
        let mut chain = Chain::new(10, Gateway::new, serve);
        chain.run(&[1]);
        chain.run(&[2, 9]);
        let file = file();
        assert_eq!(file, b"\xffchain1\n\0\0\0\x01\x01\0\0\0\x02\x02\x09");
        chain.run(&file);
        assert_eq!(*SEEN.lock().unwrap(), [1, 2, 1, 2]);
    }
}
