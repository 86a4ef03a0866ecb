//! The sending end: test frames at their times, and TCP's part of a conversation.

use std::net::IpAddr;

use hugepages::region::monotonic_nanos;
use packet::ethernet::Mac;
use packet::parse::{Parsed, TCP};
use packet::tcp::{ACKNOWLEDGEMENT, FLAGS, SEQUENCE};
use packet::tuple::addresses;
use packet::{Buffer, Burst, Link, Pool};
use serde::Serialize;

use super::choice::{Dealer, Sizes};
use super::connections::{self, Next};
use super::flows::FlowSet;
use super::outbox::Outbox;
use super::pace::Pace;
use super::payload::{Kind, Mark};
use super::station::Station;
use super::tally::{Kinds, Tally};
use super::writer::{Numbers, Writer};
use crate::Error;

/// Frames written ahead of what the device takes.
const AHEAD: usize = 32;

/// What the client sends.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// Who sends to whom.
    pub flows: FlowSet,
    /// Which flow each frame is of.
    pub dealer: Dealer,
    /// How large each frame is.
    pub sizes: Sizes,
    /// TCP: data segments of each connection, sent as soon as it is established and followed by FIN;
    /// `None`: connections stay open until they are told to finish.
    pub segments: Option<u32>,
}

/// What was sent, in frames that the device has taken or that wait for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Data frames of this run; their numbers are 0 to this.
    pub data: u64,
    /// Bytes of these, without FCS.
    pub data_bytes: u64,
    /// Frames sent to make flows.
    pub prime: u64,
    /// Frames that tell the end.
    pub end: u64,
    /// TCP segments without data.
    pub control: u64,
    /// Data segments among them of flows that have no connection.
    pub unconnected: u64,
    /// Times that no buffer was to be had.
    pub no_buffer: u64,
    /// Times that the device became full.
    pub device_full: u64,
}

/// The sending end of a link.
#[derive(Debug)]
pub struct Client<L: Link, P> {
    link: L,
    pool: P,
    station: Station,
    traffic: Traffic,
    /// MAC address of the gateway, once it is known, and what writes frames to it.
    gateway: Option<(Mac, Writer)>,
    connections: connections::Client,
    run: u16,
    sent: Sent,
    tally: Tally,
    out: Outbox<L::Buffer>,
    frames: u64,
    /// Refusals of the device before this run.
    refusals: u64,
}

impl<L: Link, P: Pool<Buffer = L::Buffer>> Client<L, P> {
    /// On this link, sending through the neighbour that `station` looks for, or to `gateway`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the frames cannot be written.
    pub fn new(
        (link, pool): (L, P),
        mut station: Station,
        traffic: Traffic,
        gateway: Gateway,
    ) -> Result<Self, Error> {
        // Written for any address first, so that wrong sizes show at once.
        let mac = match gateway {
            Gateway::Mac(mac) => mac,
            Gateway::Address(address) => {
                station.look_for(address);
                Mac::BROADCAST
            }
        };
        let writer = writer(&traffic, station.mac(), mac)?;
        let is_tcp = traffic.flows.protocol() == TCP;
        Ok(Self {
            link,
            pool,
            station,
            connections: connections::Client::new(if is_tcp { traffic.flows.count() } else { 0 }),
            traffic,
            gateway: matches!(gateway, Gateway::Mac(_)).then_some((mac, writer)),
            run: 0,
            sent: Sent::default(),
            tally: Tally::new(Some(0), None),
            out: Outbox::default(),
            frames: 0,
            refusals: 0,
        })
    }

    /// Receives a burst, if there is one, reacts, asks for the gateway's address if it is not known;
    /// returns how many frames came.
    pub fn turn(&mut self, now: u64) -> usize {
        let mut burst = Burst::new();
        let count = self.link.rx_burst(&mut burst);
        self.frames += count as u64;
        let now = if count > 0 { monotonic_nanos() } else { now };
        for frame in burst.drain(..) {
            self.frame(frame, now);
        }
        if self.station.wants_to_ask(now)
            && let Some(mut frame) = self.alloc()
            && self.station.ask(&mut frame, now)
        {
            self.out.push(frame);
        }
        self.out.send(&mut self.link);
        count
    }

    /// Whether it is known where to send to.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.gateway.is_some()
    }

    /// Begins another run, of frames in these sizes: counts from zero; returns the account of what
    /// came back meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for sizes that have no room for the fields.
    pub fn begin(&mut self, run: u16, sizes: Sizes) -> Result<Tally, Error> {
        self.run = run;
        self.sent = Sent::default();
        self.refusals = self.out.refusals();
        if self.traffic.segments.is_some() {
            self.connections.reset_counts();
        }
        if sizes != self.traffic.sizes {
            self.traffic.sizes = sizes;
            if let Some((mac, old)) = &mut self.gateway {
                *old = writer(&self.traffic, self.station.mac(), *mac)?;
            }
        }
        let dealer = Some(self.traffic.dealer.clone());
        Ok(std::mem::replace(
            &mut self.tally,
            Tally::new(Some(run), dealer),
        ))
    }

    /// Sends data frames that are due by `now`, at most so many at once as the device takes; none
    /// from number `most` on.
    pub fn send(&mut self, pace: &Pace, most: u64, now: u64) {
        while self.sent.data < most && self.out.len() < AHEAD && pace.due(now) > self.sent.data {
            let sequence = self.sent.data;
            let flow = self.traffic.dealer.flow(sequence);
            if !self.data(Kind::Data, flow, pace.time(sequence, now)) {
                break;
            }
        }
        self.out.send(&mut self.link);
    }

    /// Opens flow number `flow`: TCP by a SYN, UDP by a frame that is not counted. False if there is
    /// no room at the moment.
    pub fn open(&mut self, flow: u32, time: u64) -> bool {
        if self.out.len() >= AHEAD {
            self.out.send(&mut self.link);
            return false;
        }
        if self.traffic.flows.protocol() != TCP {
            return self.data(Kind::Prime, flow, time);
        }
        let (flags, numbers) = self.connections.open(flow, time);
        self.control(flow, flags, numbers)
    }

    /// Finishes the TCP connection of a flow, if it has one. False if there is no room at the moment.
    pub fn finish(&mut self, flow: u32) -> bool {
        if self.out.len() >= AHEAD {
            self.out.send(&mut self.link);
            return false;
        }
        match self.connections.finish(flow) {
            Some((flags, numbers)) => self.control(flow, flags, numbers),
            None => true,
        }
    }

    /// Tells the receiver how many data frames were sent, over the flow of the first frame.
    pub fn tell_end(&mut self, now: u64) {
        let flow = self.traffic.dealer.flow(0);
        self.data(Kind::End, flow, now);
        self.out.send(&mut self.link);
    }

    /// What was sent in this run.
    #[must_use]
    pub fn sent(&self) -> Sent {
        Sent {
            device_full: self.out.refusals() - self.refusals,
            ..self.sent
        }
    }

    /// What came back in this run.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// TCP's state.
    #[must_use]
    pub fn connections(&self) -> &connections::Client {
        &self.connections
    }

    /// What is sent.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Frames received, and frames sent, since the link is open.
    #[must_use]
    pub fn frames(&self) -> (u64, u64) {
        (self.frames, self.out.sent())
    }

    /// Frames that the device has not taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.out.len()
    }

    fn frame(&mut self, mut frame: L::Buffer, now: u64) {
        match self.tally.frame(frame.bytes(), now) {
            Kinds::Control(parsed) => self.segment(frame.bytes(), &parsed, now),
            Kinds::Counted(_) => {}
            Kinds::Other => {
                if self.station.meet(&mut frame) {
                    self.out.push(frame);
                } else if let (None, Some(mac)) = (&self.gateway, self.station.found()) {
                    // The same traffic was accepted with another address.
                    let writer = writer(&self.traffic, self.station.mac(), mac);
                    self.gateway = writer.ok().map(|writer| (mac, writer));
                }
            }
        }
    }

    /// A TCP segment without data.
    fn segment(&mut self, bytes: &[u8], parsed: &Parsed, now: u64) {
        let number = |at: usize| {
            let four = bytes.get(parsed.l4() + at..parsed.l4() + at + 4);
            four.map_or(0, |four| {
                u32::from_be_bytes([four[0], four[1], four[2], four[3]])
            })
        };
        let ports = number(0);
        let flow = addresses(bytes, parsed).and_then(|(server, client)| {
            let server = (server, (ports >> 16) as u16).into();
            self.traffic
                .flows
                .flow_of(server, (client, ports as u16).into())
        });
        let Some(flow) = flow else { return };
        let numbers = Numbers {
            sequence: number(SEQUENCE),
            acknowledgement: number(ACKNOWLEDGEMENT),
        };
        let flags = (number(FLAGS - 1) >> 16) as u8;
        let next = self.connections.segment(flow, flags, numbers, now);
        if next == Next::Nothing {
            return;
        }
        let (flags, numbers) = self.connections.acknowledge(flow);
        self.control(flow, flags, numbers);
        if let (Next::Established, Some(segments)) = (next, self.traffic.segments) {
            for _ in 0..segments {
                self.data(Kind::Data, flow, now);
            }
            if let Some((flags, numbers)) = self.connections.finish(flow) {
                self.control(flow, flags, numbers);
            }
        }
    }

    /// Writes a frame with a payload. False if there is no buffer.
    fn data(&mut self, kind: Kind, flow: u32, time: u64) -> bool {
        let Some(mut frame) = self.alloc() else {
            return false;
        };
        let Some((_, writer)) = &self.gateway else {
            return false;
        };
        let sequence = self.sent.data;
        let size = self.traffic.sizes.index(sequence);
        let mark = Mark {
            run: self.run,
            kind,
            sequence,
            time,
        };
        let tuple = self.traffic.flows.tuple(flow);
        let numbers = if tuple.protocol == TCP {
            let (numbers, is_open) = self.connections.data(flow, writer.payload(size));
            self.sent.unconnected += u64::from(!is_open && kind == Kind::Data);
            numbers
        } else {
            Numbers::default()
        };
        writer.data(&mut frame, size, &tuple, &mark, numbers);
        match kind {
            Kind::Data => {
                self.sent.data += 1;
                self.sent.data_bytes += frame.bytes().len() as u64;
            }
            Kind::Prime => self.sent.prime += 1,
            Kind::End => self.sent.end += 1,
        }
        self.out.push(frame);
        true
    }

    fn control(&mut self, flow: u32, flags: u8, numbers: Numbers) -> bool {
        let Some(mut frame) = self.alloc() else {
            return false;
        };
        let Some((_, writer)) = &self.gateway else {
            return false;
        };
        let tuple = self.traffic.flows.tuple(flow);
        writer.control(&mut frame, &tuple, flags, numbers);
        self.sent.control += 1;
        self.out.push(frame);
        true
    }

    fn alloc(&mut self) -> Option<L::Buffer> {
        let frame = self.pool.alloc();
        self.sent.no_buffer += u64::from(frame.is_none());
        frame
    }
}

/// Where frames are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// To whoever has this address.
    Address(IpAddr),
    /// To this MAC address.
    Mac(Mac),
}

fn writer(traffic: &Traffic, from: Mac, to: Mac) -> Result<Writer, Error> {
    let flows = &traffic.flows;
    Writer::new(flows.is_v4(), flows.protocol(), &traffic.sizes, from, to)
}
